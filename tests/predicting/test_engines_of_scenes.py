"""Which engine computes a scene, and that a map is known to be its work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
    """Two models and two scenes."""
    folder = tmp_path_factory.mktemp("engines of scenes")
    source = InputSpec(("red", "green", "blue"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), ("a", "b", "c"), tuple((i, i, i) for i in range(3)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    for seed, run in enumerate(("run", "other")):
        torch.manual_seed(seed)
        (folder / run).mkdir()
        save_model(folder / run / "model.safetensors", build_model(config, spec), training={}, protocol={})
        (folder / run / "config.yaml").write_text("dataset: {}\n")
        (folder / run / "summary.json").write_text("{}\n")
    for name, height in (("scene.tif", 350), ("small.tif", 130)):
        profile = {"driver": "GTiff", "count": 3, "height": height, "width": 140, "dtype": "uint8"}
        profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
        with rasterio.open(folder / name, "w", **profile) as file:
            file.write(np.random.default_rng(height).integers(1, 255, (3, height, 140), np.uint8))
    return folder


def options(folder: Path, output: Path, **changes: Any) -> DictConfig:
    given = {"checkpoint": folder / "run", "input": folder / "scene.tif", "output": output, "device": "cpu"}
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("predict", [f"{k}={quoted(v)}" for k, v in (given | {"progress": False} | changes).items()])


def quoted(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return f"'{value}'" if isinstance(value, str | Path) else str(value)


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


class Workers:
    """Stands for Ray: its workers live in this process, and compute when they are asked for what they have made."""

    def __init__(self) -> None:
        self.waiting, self.most_waiting = 0, 0
        self.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=KeyError)

    def init(self, **options: Any) -> None: ...

    def shutdown(self) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0 * torch.get_num_threads()}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        return lambda kind: SimpleNamespace(remote=lambda *given: self._methods(kind(*given)))

    def _methods(self, worker: Any) -> Any:
        return SimpleNamespace(**{name: self._method(getattr(worker, name)) for name in ("strip", "scene")})

    def _method(self, method: Callable[[Any], Any]) -> Any:
        def remote(item: Any) -> Callable[[], Any]:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            return lambda: method(item)

        return SimpleNamespace(remote=remote)

    def get(self, reference: Callable[[], Any]) -> Any:
        self.waiting -= 1
        return reference()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    found = Workers()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


def test_workers_take_the_engine_that_each_model_has_here(folder: Path, tmp_path: Path, workers: Workers) -> None:
    files = {}
    for executor in ("local", "ray"):
        options_ = {"checkpoint": [folder / "run", folder / "other"], "input": [folder / "scene.tif"]}
        options_ |= {"probabilities": "all", "probability_dtype": "float32", "window_size": 128, "executor": executor}
        cfg = options(folder, tmp_path / executor / "map.tif", **options_)
        models = replace(open_models(cfg), engines=("onnx", "torch"))  # what `auto` came to; a worker would measure
        (outcome,) = predict_scenes(cfg, models)
        several = options(
            folder, tmp_path / executor, **options_ | {"input": [folder / "scene.tif", folder / "small.tif"]}
        )
        outcomes = predict_scenes(several, models)
        files[executor] = [path for o in (outcome, *outcomes) for path in o.files]
    assert len(files["local"]) == len(files["ray"]) == 6
    for local, ray in zip(*files.values(), strict=True):
        assert local.name == ray.name and local.read_bytes() == ray.read_bytes()
    assert not list(folder.glob("*/engines/engine.json"))  # nothing was measured
