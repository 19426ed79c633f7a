"""What a map holds where a model computes no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from commands import command, refused

from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import DatasetSpec, InputSpec

SIDE = 384


def make(folder: Path, damage: str | None) -> Path:
    """Write a model, damaged or not: its weights are finite, but what it computes with them is not."""
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
def test_a_model_that_computes_no_numbers_makes_no_map(damage: str, tmp_path: Path) -> None:
    model, scene = make(tmp_path, damage), write(tmp_path / "scene.tif", image())
    options = [f"checkpoint={model}", f"input={scene}", "output=map.tif", "engine=torch", "preflight=warn"]
    assert "NaN or infinite" in refused("predict", *options, "device=cpu", cwd=tmp_path)
    assert not list(tmp_path.glob("map*"))


def test_a_map_is_nodata_where_an_absurd_value_leaves_no_number(tmp_path: Path) -> None:
    absurd = np.concatenate([image(), image()], axis=2)
    absurd[:, 10, 10] = 3e38
    model, scene = make(tmp_path, None), write(tmp_path / "scene.tif", absurd)
    options = [f"checkpoint={model}", f"input={scene}", "output=map.tif", "engine=torch", "preflight=warn"]
    done = command("predict", *options, "device=cpu", "window_size=256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "map.tif") as file:
        missing = file.read(1) == 255
    assert missing[:100, :100].all() and not missing[256:].any() and not missing[:, 256:].any()
