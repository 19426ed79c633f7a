"""Prediction with engines and distributed workers: caching of maps, messages, and memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
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

from satseg.config import CONFIG_DIR
from satseg.errors import CheckpointError
from satseg.inference.engines import keep_int8, open_engine
from satseg.inference.pipeline import Stopwatch
from satseg.inference.scene import Sink
from satseg.inference.strips import StripMaker
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model, save_model
from satseg.predict.assemble import maker_of, source_of
from satseg.predict.models import open_models
from satseg.predict.run import predict_scenes
from satseg.spec import DatasetSpec, InputSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two models and two scenes."""
    folder = tmp_path_factory.mktemp("engines of scenes")
    source = InputSpec(("red", "green", "blue"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), ("a", "b", "c"), tuple((i, i, i) for i in range(3)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    for seed, run in enumerate(("run", "other")):
        torch.manual_seed(seed)
        (folder / run).mkdir()
        save_model(folder / run / "model.safetensors", build_model(config, spec), training={}, protocol={})
        (folder / run / "config.yaml").write_text("dataset: {_target_: satseg.data.folder.FolderDataModule}\n")
        (folder / run / "summary.json").write_text("{}\n")
    for name, height in (("scene.tif", 350), ("small.tif", 130)):
        profile = {"driver": "GTiff", "count": 3, "height": height, "width": 140, "dtype": "uint8"}
        profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
        with rasterio.open(folder / name, "w", **profile) as file:
            file.write(np.random.default_rng(height).integers(1, 255, (3, height, 140), np.uint8))
    return folder


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(folder / "cache"))


def options(folder: Path, output: Path, **changes: Any) -> DictConfig:
    given = {"checkpoint": folder / "run", "input": folder / "scene.tif", "output": output, "device": "cpu"}
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("predict", [f"{k}={quoted(v)}" for k, v in (given | {"progress": False} | changes).items()])


def quoted(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return f"'{value}'" if isinstance(value, str | Path) else str(value)


def modification_time(cfg: DictConfig) -> int:
    (outcome,) = predict_scenes(cfg, open_models(cfg))
    return outcome.files[0].stat().st_mtime_ns


def test_an_int8_map_is_computed_again_after_another_calibration(folder: Path, tmp_path: Path) -> None:
    network = load_model(folder / "run")
    open_engine(folder / "run" / "model.safetensors", network, "openvino", torch.device("cpu"))
    (exact,) = folder.glob("cache/engines/openvino-*/model.xml")
    graph = tmp_path / "calibrated.xml"  # an exact graph stands in for a quantised one
    graph.with_suffix(".bin").write_bytes(exact.with_suffix(".bin").read_bytes())
    cfg, times = options(folder, tmp_path / "map.tif", engine="openvino_int8"), []
    for calibration in ("one", "one", "other"):
        graph.write_text(f"{exact.read_text()}<!-- {calibration} -->")
        keep_int8(network, graph)
        times.append(modification_time(cfg))
    assert times[0] == times[1] < times[2]


def test_workers_with_another_calibration_raise_an_error(
    folder: Path, tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, graph = load_model(folder / "run"), tmp_path / "calibrated.xml"
    open_engine(folder / "run" / "model.safetensors", network, "openvino", torch.device("cpu"))
    (exact,) = folder.glob("cache/engines/openvino-*/model.xml")
    graph.with_suffix(".bin").write_bytes(exact.with_suffix(".bin").read_bytes())
    caches = {name: tmp_path / name for name in ("caller", "worker")}
    for name, place in caches.items():
        monkeypatch.setenv("SATSEG_CACHE", str(place))
        graph.write_text(f"{exact.read_text()}<!-- {name} -->")
        keep_int8(network, graph)
    cfg = options(folder, tmp_path / "map.tif", engine="openvino_int8", executor="ray", window_size=128)
    models = open_models(cfg)
    monkeypatch.setenv("SATSEG_CACHE", str(caches["caller"]))
    models.open((128, 128))
    monkeypatch.setenv("SATSEG_CACHE", str(caches["worker"]))
    with pytest.raises(CheckpointError, match=r"another quantised model.*SATSEG_CACHE"):
        predict_scenes(cfg, models)


def test_graphs_inside_a_run_folder_are_neither_opened_nor_changed(folder: Path, tmp_path: Path) -> None:
    maps = {}
    for engine in ("torch", "onnx", "openvino", "auto"):
        predict_scenes(cfg := options(folder, tmp_path / engine / "map.tif", engine=engine), open_models(cfg))
        maps[engine] = (tmp_path / engine / "map.tif").read_bytes()
    run = tmp_path / "downloaded"
    shutil.copytree(folder / "run", run)
    shutil.copytree(folder / "cache" / "engines", run / "engines")  # graphs of this model
    for path in run.glob("engines/*/model.onnx"):
        path.write_bytes(b"rewritten")
        (path.parent / "files.json").write_text(json.dumps({path.name: hashlib.sha256(b"rewritten").hexdigest()}))
    (run / "engines" / "engine.json").write_text(
        (run / "engines" / "engine.json").read_text().replace('"best": "', '"best": "x')
    )
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for path in (run, *before):
        path.chmod(path.stat().st_mode & 0o555)  # read-only, like a mounted folder
    for engine, expected in maps.items():
        output = tmp_path / f"{engine}_downloaded" / "map.tif"
        predict_scenes(cfg := options(folder, output, engine=engine, checkpoint=run), open_models(cfg))
        assert output.read_bytes() == expected
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


class Workers:
    """Stands in for Ray: workers in this process, which compute when `get` asks for a result."""

    def __init__(self) -> None:
        self.pending, self.most_pending = 0, 0
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
            self.pending += 1
            self.most_pending = max(self.most_pending, self.pending)
            return lambda: method(item)

        return SimpleNamespace(remote=remote)

    def get(self, reference: Callable[[], Any]) -> Any:
        self.pending -= 1
        with contextlib.redirect_stderr(io.StringIO()):  # the output of workers is not visible
            return reference()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    found = Workers()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


def test_workers_use_the_engine_chosen_for_each_model_by_the_caller(
    folder: Path, tmp_path: Path, workers: Workers
) -> None:
    files = {}
    known = measured(folder)
    for executor in ("local", "ray"):
        options_ = {"checkpoint": [folder / "run", folder / "other"], "input": [folder / "scene.tif"]}
        options_ |= {"probabilities": "all", "probability_dtype": "float32", "window_size": 128, "executor": executor}
        cfg = options(folder, tmp_path / executor / "map.tif", **options_)
        models = replace(
            open_models(cfg), engines=("onnx", "torch")
        )  # as chosen by `auto`, which a worker would measure again
        (outcome,) = predict_scenes(cfg, models)
        several = options(
            folder, tmp_path / executor, **options_ | {"input": [folder / "scene.tif", folder / "small.tif"]}
        )
        outcomes = predict_scenes(several, models)
        files[executor] = [path for o in (outcome, *outcomes) for path in o.files]
    assert len(files["local"]) == len(files["ray"]) == 6
    for local, ray in zip(*files.values(), strict=True):
        assert local.name == ray.name and local.read_bytes() == ray.read_bytes()
    assert measured(folder) == known  # nothing has been measured


def measured(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob("cache/engines/engine.json")]


def test_warnings_and_errors_of_workers_are_printed_by_the_caller(
    folder: Path, tmp_path: Path, workers: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        rasterio.open(folder / "small.tif") as source,
        rasterio.open(tmp_path / "empty.tif", "w", **source.profile | {"nodata": 0}) as file,
    ):
        file.write(0 * source.read())
    (tmp_path / "broken.tif").write_bytes((folder / "scene.tif").read_bytes()[:2000])
    cfg = options(folder, tmp_path / "maps", input=tmp_path, engine="torch", executor="ray")
    outcomes = predict_scenes(cfg, open_models(cfg))
    printed = capsys.readouterr().err
    assert [bool(outcome.error) for outcome in outcomes] == [True, False]
    assert "broken.tif" in printed and "Warning" in printed and "empty.tif has hardly any valid pixels" in printed


@pytest.mark.parametrize(("strips", "most"), [(99, 4), (3, 3), (1, 1)])  # with three workers and four strips
def test_the_number_of_pending_strips_is_limited_by_memory(
    folder: Path, tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch, strips: int, most: int
) -> None:
    cfg = options(folder, tmp_path / "map.tif", engine="torch", executor="ray", window_size=128, entropy=True)
    models = open_models(cfg)
    maker = maker_of(cfg, models, source_of(cfg, models, folder / "scene.tif"))
    for _, parts in maker.make(range(4), Stopwatch()):
        arrays = [array for part in parts for array in (*part.body, part.top.logits.numpy(), part.bottom.numpy())]
        assert 0 < sum(array.nbytes for array in arrays) <= maker.strip_bytes
    monkeypatch.setattr(StripMaker, "strip_bytes", property(lambda maker: maker.max_ram_bytes // strips))
    predict_scenes(cfg, models)
    assert workers.most_pending == most


def test_a_resumed_map_reports_only_the_pixels_that_this_run_computed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = options(folder, tmp_path / "map.tif", engine="torch", window_size=128)
    models, original_take = open_models(cfg), Sink.take

    def stopped(self: Sink, row: int, *given: Any) -> None:
        if row == 2:
            raise KeyboardInterrupt
        original_take(self, row, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Sink, "take", stopped)
        predict_scenes(cfg, models)
    lines = [predict_scenes(cfg, models)[0].line() for _ in range(2)]
    (computed,) = re.findall(r"\(([0-9.]+) of 0\.049 Mpx in", lines[0])
    assert float(computed) == pytest.approx(0.049 / 2, rel=0.1)  # two of four strips
    assert "already complete" in lines[1] and "Mpx/s" not in lines[1]
