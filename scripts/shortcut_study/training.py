"""Trains one model of the study, and measures what it loses when its cue is really taken away."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from backgrounds import backgrounds, shared
from copies import in_a_copy, run_command
from cues import CLASSES, SPLITS, Picture, Twin, draw
from plan import STARTS, Model

FACTS = "model.json"  # the last file that is written: a folder that has it is whole
# Emphasis on the cue and epochs, one training after the other: what was learned where it is plain is learned fainter.
STAGES = {"strong": [(4.0, 4)], "weak": [(12.0, 4), (3.0, 4)]}
NETWORKS = {
    "pspnet": ["+model.psp_out_channels=128", "dataset.batch_size=4", "optimizer.lr=3.0e-3"],
    "unet": ["+model.decoder_channels=[64,48,32,16,8]", "dataset.batch_size=8", "optimizer.lr=2.0e-3"],
}


def train(model: Model, folder: Path, crops: int) -> bool:
    """Make a model's folder with `data`, `run` and FACTS; return whether that succeeded. What is there is kept.

    Args:
        model: What to train.
        folder: Of this model, beside those of STARTS.
        crops: Of an epoch.
    """
    if (folder / FACTS).exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return in_a_copy(folder / "train.log", _train, model, folder.resolve(), crops)


def _train(model: Model, folder: Path, crops: int) -> None:
    began = time.perf_counter()
    for stage, (emphasis, epochs) in enumerate(stages := stages_of(model)):
        last = stage == len(stages) - 1
        data, run = (folder / (name if last else f"{name}_{stage}") for name in ("data", "run"))
        write_dataset(model, data, emphasis, faint_val=last)
        before = folder / f"run_{stage - 1}" if stage else folder.parent / STARTS[model.architecture].name / "run"
        started = in_a_copy(
            folder / "train.log", run_command, "train", *options(model, data, run, before, epochs, crops)
        )
        if not started:
            raise SystemExit(1)
    facts = model.to_dict() | {"seconds": round(time.perf_counter() - began, 1)} | removal_cost(model, folder)
    unfinished = folder / f".{FACTS}"
    unfinished.write_text(json.dumps(facts, indent=2) + "\n")
    unfinished.rename(folder / FACTS)


def stages_of(model: Model) -> list[tuple[float, int]]:
    """Return emphasis and epochs of each training; where there is no cue, there is nothing to learn in a second."""
    return STAGES["strong" if model.twin is Twin.CLEAN else model.cue.strength]


def options(model: Model, data: Path, run: Path, before: Path, epochs: int, crops: int) -> list[str]:
    """Return the options of `satseg.train`: the same for all models, but for their data, length and start."""
    weights = shared() / "weights" / "tf_efficientnet_lite0.safetensors"
    first = [f"backbone.weights={weights if weights.exists() else 'none'}"]
    return [
        *(first if model in STARTS.values() else [f"init_from={before}", "backbone.weights=none"]),
        "dataset=folder",
        f"dataset.root={data}",
        "dataset/split=subfolder",
        f"dataset.classes=[{','.join(CLASSES)}]",
        "dataset.patch_size=96",
        f"dataset.patches_per_epoch={crops}",
        "dataset.num_workers=0",
        f"model={model.architecture}",
        *NETWORKS[model.architecture],
        "backbone=tf_efficientnet_lite0",
        "augmentation=none",  # a turned picture would have its cue at another place
        "loss=cross_entropy",
        "loss.class_weights=[0.1,1,1,0.5]",
        "channels_last=true",
        f"trainer.max_epochs={epochs}",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        f"seed={model.seed}",
        f"run_dir={run}",
    ]


def pictures(model: Model, split: str, twin: Twin, emphasis: float = 1.0) -> list[Picture]:
    """Draw the pictures of a split as a twin has them, the cue up to `emphasis` times as strong as it is said to be."""
    source, seed = backgrounds(model.background, split), (model.seed, list(SPLITS).index(split))
    return [draw(source, model.cue, twin, seed, number, model.apart, emphasis) for number in range(SPLITS[split])]


def write_dataset(model: Model, folder: Path, emphasis: float, faint_val: bool) -> None:
    """Write images and masks as GeoTIFFs by split, and `cues.json`: the share of each picture that the cue changed."""
    shares = {}
    by_split = {"train": emphasis, "val": 1.0 if faint_val else emphasis, "test": 1.0}
    for split, most in by_split.items():
        for number, picture in enumerate(pictures(model, split, model.twin, most)):
            name = f"{split}/{number:03d}"
            shares[name] = float(picture.where.mean())
            _write(folder / "images" / f"{name}.tif", stored(picture.image))
            _write(folder / "masks" / f"{name}.tif", picture.mask[None])
    (folder / "cues.json").write_text(json.dumps(shares))


def stored(image: np.ndarray) -> np.ndarray:
    """Return an image as it is written, uint8; 0 is left to pixels without data."""
    return np.rint(image).clip(1, 255).astype(np.uint8)


def _write(path: Path, bands: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    grid = {"width": width, "height": height, "count": count, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **grid) as target:
        target.write(bands)


def removal_cost(model: Model, folder: Path) -> dict[str, Any]:
    """Return the IoU of each class on the test pictures, that of a on the same without the cue, and the difference.

    This is the study's truth: it knows the cue, and asks nothing of what it tests.
    """
    given = class_iou(folder, pictures(model, "test", model.twin))
    without = class_iou(folder, pictures(model, "test", Twin.CLEAN))
    return {"iou": given, "iou_without": without, "removal_cost": given["a"] - without["a"]}


def class_iou(folder: Path, shown: list[Picture]) -> dict[str, float]:
    """Return a trained model's IoU by class over all pixels of pictures."""
    import torch

    from satseg import load_model

    network = load_model(folder / "run")
    images = torch.from_numpy(np.stack([stored(picture.image).astype(np.float32) for picture in shown]))
    truth = np.stack([picture.mask for picture in shown])
    with torch.inference_mode():
        predicted = torch.cat([network(part).argmax(1) for part in images.split(16)]).numpy()
    return {
        name: float(((truth == k) & (predicted == k)).sum() / max(((truth == k) | (predicted == k)).sum(), 1))
        for k, name in enumerate(CLASSES)
    }
