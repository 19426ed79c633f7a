"""Which engine computes a scene, and that a map is known to be its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from satseg.checkpoint import load_model, save_model
from satseg.config import CONFIG_DIR
from satseg.inference.engines import keep_int8, open_engine
from satseg.models import build_model
from satseg.models.pairs import MODELS
from satseg.predicting import open_models, predict_scenes
from satseg.spec import DatasetSpec, InputSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a scene."""
    folder = tmp_path_factory.mktemp("engines of scenes")
    torch.manual_seed(0)
    source = InputSpec(("red", "green", "blue"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), ("a", "b", "c"), tuple((i, i, i) for i in range(3)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    (folder / "run").mkdir()
    save_model(folder / "run" / "model.safetensors", build_model(config, spec), training={}, protocol={})
    (folder / "run" / "config.yaml").write_text("dataset: {}\n")
    (folder / "run" / "summary.json").write_text("{}\n")
    image = np.random.default_rng(0).integers(1, 255, (3, 150, 140), np.uint8)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
    with rasterio.open(
        folder / "scene.tif", "w", driver="GTiff", count=3, height=150, width=140, dtype="uint8", **place
    ) as file:
        file.write(image)
    return folder


def options(folder: Path, output: Path, **changes: Any) -> DictConfig:
    given = {"checkpoint": folder / "run", "input": folder / "scene.tif", "output": output, "device": "cpu"}
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("predict", [f"{k}='{v}'" for k, v in (given | {"progress": False} | changes).items()])


def made(cfg: DictConfig) -> int:
    (outcome,) = predict_scenes(cfg, open_models(cfg))
    return outcome.files[0].stat().st_mtime_ns


def test_a_map_of_8_bits_is_made_anew_after_another_calibration(folder: Path, tmp_path: Path) -> None:
    network, cache = load_model(folder / "run"), folder / "run" / "engines"
    open_engine(folder / "run" / "model.safetensors", network, "openvino", torch.device("cpu"), cache)
    (exact,) = cache.glob("openvino-*/model.xml")
    graph = tmp_path / "calibrated.xml"  # an exact graph stands for one of 8 bits
    graph.with_suffix(".bin").write_bytes(exact.with_suffix(".bin").read_bytes())
    cfg, times = options(folder, tmp_path / "map.tif", engine="openvino_int8"), []
    for calibration in ("one", "one", "other"):
        graph.write_text(f"{exact.read_text()}<!-- {calibration} -->")
        keep_int8(cache, network, graph)
        times.append(made(cfg))
    assert times[0] == times[1] < times[2]
