"""Models and scenes that give NaN or infinite logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from commands import command, error_line

from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import DatasetSpec, InputSpec

SIDE = 384


def write_model(folder: Path, damage: str | None) -> Path:
    """Write a model; a damaged one has finite weights but gives NaN or infinite logits."""
    source = InputSpec(("red", "green", "blue"), "float32", 1.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    torch.manual_seed(0)
    network = build_model(config, spec)
    if damage == "weight":
        with torch.no_grad():
            next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d)).weight.fill_(3e38)
    if damage == "variance":
        norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
        assert norm.running_var is not None
        norm.running_var.fill_(-1.0)
    save_model(folder / "model.safetensors", network, training={}, protocol={})
    return folder / "model.safetensors"


def write(path: Path, image: np.ndarray) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=len(image), height=image.shape[1], width=image.shape[2], dtype=image.dtype
    ) as file:
        file.write(image)
    return path


def image() -> np.ndarray:
    return np.random.default_rng(0).random((3, SIDE, SIDE), np.float32)


@pytest.mark.parametrize("damage", ["weight", "variance"])
def test_a_model_with_nan_or_infinite_logits_gives_an_error_and_no_map(damage: str, tmp_path: Path) -> None:
    model, scene = write_model(tmp_path, damage), write(tmp_path / "scene.tif", image())
    options = [f"checkpoint={model}", f"input={scene}", "output=map.tif", "engine=torch", "preflight=warn"]
    assert "NaN or infinite" in error_line("predict", *options, "device=cpu", cwd=tmp_path)
    assert not list(tmp_path.glob("map*"))


def test_a_map_is_nodata_where_an_extreme_pixel_gives_nan(tmp_path: Path) -> None:
    extreme = np.concatenate([image(), image()], axis=2)
    extreme[:, 10, 10] = 3e38
    model, scene = write_model(tmp_path, None), write(tmp_path / "scene.tif", extreme)
    options = [f"checkpoint={model}", f"input={scene}", "output=map.tif", "engine=torch", "preflight=warn"]
    done = command("predict", *options, "device=cpu", "window_size=256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "map.tif") as file:
        missing = file.read(1) == 255
    assert missing[:100, :100].all() and not missing[256:].any() and not missing[:, 256:].any()
