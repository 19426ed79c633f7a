"""Training of one model of the study, and measurement of its loss when the cue is removed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from backgrounds import backgrounds, shared
from copies import run_command, run_in_fork
from cues import CLASSES, SPLITS, Picture, Twin, draw
from plan import STARTS, Model

FACTS = "model.json"  # the last file that is written: a folder that has it is complete
CROPS = 1600  # to train on; twice as many for the starts of SLOW kinds
SLOW = ("band", "brightness", "tint")
WEIGHTS = "tf_efficientnet_lite0.safetensors"


def train(model: Model, folder: Path, crops: int) -> bool:
    """Make a model's folder with `data`, `run` and FACTS, and before it, that of its start; existing ones are kept.

    Args:
        model: What to train.
        folder: Of this model; that of its start lies beside it.
        crops: To train on; the starts of SLOW kinds take twice as many.

    Returns:
        Whether that succeeded.
    """
    if (folder / FACTS).exists():
        return True
    if model.start and not train(model.start, folder.parent / model.start.name, crops):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return run_in_fork(folder / "train.log", _train, model, folder.resolve(), crops)


def _train(model: Model, folder: Path, crops: int) -> None:
    began, worked = time.perf_counter(), time.process_time()
    write_dataset(model, folder / "data")
    is_slow = model.emphasis in STARTS and model.cue.kind in SLOW
    run_command("train", *options(model, folder, 2 * crops if is_slow else crops))
    times = {"seconds": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - worked, 1)}
    unfinished = folder / f".{FACTS}"
    unfinished.write_text(json.dumps(model.to_dict() | times | removal_cost(model, folder), indent=2) + "\n")
    unfinished.rename(folder / FACTS)


def options(model: Model, folder: Path, crops: int) -> list[str]:
    """Return the options of `satseg.train`: the same for all models, but for their data, length and start."""
    weights = shared() / "weights" / WEIGHTS
    first = [f"backbone.weights={weights if weights.exists() else 'none'}"]
    start = model.start and folder.parent / model.start.name / "run"
    return [
        *([f"init_from={start}", "backbone.weights=none"] if start else first),
        "dataset=folder",
        f"dataset.root={folder / 'data'}",
        "dataset/split=subfolder",
        f"dataset.classes=[{','.join(CLASSES)}]",
        "dataset.patch_size=96",
        f"dataset.patches_per_epoch={crops}",
        "dataset.batch_size=8",
        "dataset.num_workers=0",
        "model=unet",
        "+model.decoder_channels=[64,48,32,24,16]",
        "backbone=tf_efficientnet_lite0",
        "augmentation=none",  # a rotated image would have its cue at another position
        "loss=cross_entropy",
        "loss.class_weights=[0.1,1,1,0.5]",
        "optimizer.lr=2.0e-3",
        "optimizer.backbone_lr_factor=1.0",
        "channels_last=true",
        "trainer.max_epochs=1",  # the last weights are the best of one epoch
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        f"seed={model.seed}",
        f"run_dir={folder / 'run'}",
    ]


def pictures(model: Model, split: str, twin: Twin) -> list[Picture]:
    """Draw the pictures of a split as a twin has them."""
    source, seed = backgrounds(model.background, split), (model.seed, list(SPLITS).index(split))
    emphasis = model.emphasis if split == "train" else (1.0, 1.0)
    return [draw(source, model.cue, twin, seed, number, model.apart, emphasis) for number in range(SPLITS[split])]


def write_dataset(model: Model, folder: Path) -> None:
    """Write images and masks as GeoTIFFs by split, and `marks.json`: the box of each cue, or nothing."""
    marks = {}
    for split in SPLITS:
        for number, picture in enumerate(pictures(model, split, model.twin)):
            name = f"{split}/{number:03d}"
            marks[name] = _box(picture.where)
            _write(folder / "images" / f"{name}.tif", stored(picture.image))
            _write(folder / "masks" / f"{name}.tif", picture.mask[None])
    (folder / "marks.json").write_text(json.dumps(marks))


def _box(where: np.ndarray) -> list[int] | None:
    """Return column, row, width and height of what is true (H, W); None where nothing is."""
    if not where.any():
        return None
    rows, cols = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    return [int(n) for n in (cols[0], rows[0], np.ptp(cols) + 1, np.ptp(rows) + 1)]


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

    This is the study's ground truth: it is computed from the known cue, independently of the diagnosis under test.
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
