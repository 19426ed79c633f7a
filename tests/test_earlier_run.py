"""A run folder of an earlier version, made by scripts/make_earlier_run.sh, still works."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import command
from hydra.utils import get_class

from satseg.records.config import read_config
from satseg.records.slots import schema
from satseg.runs.renamed import RENAMED

EARLIER = Path(__file__).with_name("earlier_run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EARLIER, tmp_path / "run"))


def run_command(run: Path, name: str, *options: str) -> None:
    done = command(name, *options, cwd=run.parent)
    assert done.returncode == 0, done.stderr


def rows(run: Path) -> list[dict[str, str]]:
    """Return the metrics of each epoch, without times and memory."""
    with (run / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if not k.endswith(("seconds", "per_second", "memory_gb"))}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_an_earlier_run_can_be_evaluated_used_for_prediction_and_explained(run: Path) -> None:
    best = max(float(row["val/miou"]) for row in rows(run))
    run_command(run, "evaluate", "checkpoint=run", "split=val")
    scores = json.loads((run / "evaluation" / "val" / "scores.json").read_text())
    assert scores["scores"]["miou"] == pytest.approx(best, abs=1e-4)

    (scene,) = (run.parent / "cache").rglob("val/images/scene_00.tif")
    run_command(run, "predict", "checkpoint=run", f"input={scene}", "output=maps")
    (file,) = (run.parent / "maps").glob("*.tif")
    with rasterio.open(file) as classes, rasterio.open(scene.parents[1] / "masks" / scene.name) as mask:
        predicted, truth = classes.read(1), mask.read(1)
    names = list(np.unique(truth))
    counts = [((predicted == k) & (truth == k), (predicted == k) | (truth == k)) for k in names]
    assert np.mean([both.sum() / either.sum() for both, either in counts]) == pytest.approx(best, abs=0.1)

    run_command(run, "explain", "checkpoint=run", f"input={scene}", "target=water", "output=evidence")
    assert list((run.parent / "evidence").rglob("*.png"))


@pytest.mark.slow
def test_an_earlier_run_can_be_resumed(run: Path) -> None:
    before = rows(run)
    run_command(run, "train", "resume_from=run")
    after = rows(run)
    assert after[0] == before[0]
    repeated = {name: float(value) for name, value in after[1].items() if value}  # it had no checkpoint
    recorded = {name: float(value) for name, value in before[1].items() if value}
    assert repeated == pytest.approx(recorded, abs=0.01)  # equal on the processor that it was recorded on
    assert [int(row["epoch"]) for row in after] == [0, 1, 2, 3]
    assert json.loads((run / "summary.json").read_text())["scores"]["test"]["miou"] > 0


def test_renamed_classes_are_found_by_their_earlier_names(run: Path) -> None:
    record = run / "config.yaml"
    strategy = "  strategy:\n    _target_: satseg.sharding.ShardedStrategy\n"
    record.write_text(record.read_text().replace("  devices: 1\n", f"  devices: 1\n{strategy}"))
    found = read_config(run).trainer.strategy._target_
    assert found == "satseg.train.sharding.ShardedStrategy"


@pytest.mark.parametrize("new_name", RENAMED.values())
def test_renamed_classes_exist_and_are_permitted_in_run_records(new_name: str) -> None:
    assert get_class(new_name).__qualname__ == new_name.rpartition(".")[2]
    assert (
        any(new_name in slot.targets for slot in schema().slots.values()) or ".Dashboard" in new_name
    )  # loggers are set by the user


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("satseg.data.places.Balanced", "satseg.data.places.Balanced, which is now satseg.data.sampling.Balanced"),
        ("my_package.Sampler", "my_package.Sampler, which cannot be imported: No module named 'my_package'. Check"),
        ("satseg.data.sampling.Ballanced", "cannot be imported: module 'satseg.data.sampling' has no attribute 'Ball"),
    ],
)
def test_a_class_in_a_user_config_that_cannot_be_imported_is_named_in_one_error_line(
    name: str, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "conf" / "dataset" / "sampler" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"_target_: {name}\n")
    done = command("train", "--config-dir", "conf", "dataset/sampler=mine", "trainer=debug", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "Error" in line]
    assert line.startswith(f"ConfigError: dataset.sampler._target_ names {name}") and expected in line
    assert "Traceback" not in done.stderr
