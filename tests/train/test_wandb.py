"""W&B dashboards, by the content of offline run files; no server is contacted."""

import csv
import json
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, command, run_module

from satseg.train.callbacks.wandb import Dashboard

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[bytes]:
    """Read the log format of LevelDB, which W&B writes after a header of seven bytes."""
    data, place, parts = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        parts += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a full record, or its last part
            yield parts
            parts = b""


def read_back(folder: Path) -> dict[str, Any]:
    """Return history, summary, config, artifacts, run and exit code from the only run file below a folder."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("run-*.wandb")
    found: dict[str, Any] = {"history": defaultdict(list), "summary": {}, "config": {}, "artifacts": [], "exit": None}
    for content in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            for item in record.history.item:
                key = item.key or ".".join(item.nested_key)
                found["history"][key].append(json.loads(item.value_json))
        elif kind == "summary":
            for item in record.summary.update:
                found["summary"][item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        elif kind in ("config", "run"):
            config = record.config if kind == "config" else record.run.config
            found["config"] |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in config.update}
            if kind == "run":
                found["run"] = record.run
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(record.request.log_artifact.artifact)
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


@pytest.mark.slow
def test_an_offline_run_contains_metrics_images_tables_and_the_model(tmp_path: Path) -> None:
    watched = ["logger.wandb.watch=gradients", "+logger.wandb.watch_every=2"]
    done = command("train", *TINY, "logger=wandb", *watched, "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0 and "Weights & Biases failed" not in done.stderr, done.stderr
    found = read_back(tmp_path / "run")
    names = ["water", "forest", "cropland", "bare_land", "road", "building", "solar_park"]
    expected = ["losses/train", "losses/val", "scores/miou", "throughput/images_per_second", "memory/memory_gb"]
    expected += [f"iou_by_class/{name}" for name in names]
    for key in expected:
        assert len(found["history"][key]) == 2, (key, sorted(found["history"]))
    assert any(key.startswith("learning_rate/") for key in found["history"])
    assert any(key.startswith("gradients/") for key in found["history"])
    scores = json.loads((tmp_path / "run/evaluation/test/scores.json").read_text())["scores"]
    assert found["summary"].get("test/miou") == scores["miou"], (found["summary"], found["history"])

    assert found["history"]["test/samples.count"] == [2]
    (masks,) = found["history"]["test/samples.all_masks"]
    assert [sorted(of_one) for of_one in masks] == [["prediction", "truth"]] * 2
    (path,) = found["history"]["test/worst_images.path"]
    table = json.loads(next((tmp_path / "run").rglob(Path(path).name)).read_text())
    assert table["columns"][1:4] == ["name", "group", "miou"] and len(table["data"]) == 2
    mious = [row[3] for row in table["data"]]
    assert mious == sorted(mious)
    (path,) = found["history"]["test/confusion_matrix_table.path"]
    cells = json.loads(next((tmp_path / "run").rglob(Path(path).name)).read_text())["data"]
    with (tmp_path / "run/evaluation/test/confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert [int(cell[2]) for cell in cells] == [int(n) for row in rows[1:] for n in row[1:]]

    (model,) = [a for a in found["artifacts"] if a.type == "model"]
    assert sorted(model.aliases) == ["best", "latest"] and model.name == "model"
    assert [entry.path for entry in model.manifest.contents] == [
        "model.safetensors"
    ] or model.manifest.manifest_file_path
    data = json.loads((tmp_path / "run/data.json").read_text())
    assert found["config"]["data_fingerprint"] == data["fingerprint"]
    assert found["config"]["backbone"]["encoder_name"] == "tu-mobilenetv4_conv_small" and "git" in found["config"]


@pytest.mark.slow
def test_runs_of_a_sweep_have_separate_dashboards_in_one_group(tmp_path: Path) -> None:
    options = ["logger=wandb", "trainer.max_epochs=1", "optimizer.lr=0.001,1e12"]
    done = command("train", "-m", *TINY, *options, cwd=tmp_path)
    assert done.returncode == 1 and "1 of 2 runs have no score" in done.stderr
    (sweep,) = (tmp_path / "runs/sweeps").iterdir()
    whole, failed = (read_back(folder) for folder in sorted(p for p in sweep.iterdir() if p.is_dir()))
    assert whole["run"].run_group == failed["run"].run_group == sweep.name
    assert whole["run"].run_id != failed["run"].run_id
    assert whole["exit"] == 0 and failed["exit"] == 1


@pytest.mark.slow
def test_an_unreachable_server_does_not_stop_training_and_gives_one_warning(tmp_path: Path) -> None:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "SATSEG_CACHE": str(tmp_path / "cache"),
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }
    unsent = tmp_path / "run/wandb/run-20250101_000000-abcd1234/unsent"
    unsent.parent.mkdir(parents=True)
    unsent.touch()
    options = [*TINY, "trainer=debug", "logger=wandb", "run_dir=run"]
    done = run_module("satseg.train", *options, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be reached") == 1 and (tmp_path / "run/summary.json").is_file()
    assert "losses/train" in read_back(tmp_path / "run")["history"] and unsent.exists()


def test_a_dashboard_that_fails_during_training_gives_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    board = Dashboard(str(tmp_path), project="satseg")
    run, broken = board.experiment, ConnectionResetError("the service is gone")

    def fail(*args: Any, **options: Any) -> None:
        raise broken

    try:
        with monkeypatch.context() as patch, caplog.at_level("WARNING"):
            patch.setattr(type(run), "log", fail)
            board.log_metrics({"val/miou": 0.5}, 1)
            board.log_metrics({"val/miou": 0.6}, 2)
        assert [r.message for r in caplog.records if "the service is gone" in r.message]
        assert sum("continues without it" in r.message for r in caplog.records) == 1
    finally:
        board.close(failed=False)
    assert "WANDB_DATA_DIR" not in os.environ
