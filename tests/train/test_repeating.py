"""Repeating a run from its record, changed data, calibration, and corrected areas, through the commands."""

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import command, error_line, run_program
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.numpy import load_file

from satseg import load_model


def folder_of_images(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for i in range(count):
            mask = np.kron(random.integers(0, 2, (8, 8)), np.ones((8, 8))).astype(np.uint8)
            image = np.clip(random.normal(90 + 60 * mask, 40, (3, 64, 64)), 0, 255).astype(np.uint8)
            for kind, array in (("images", image), ("masks", mask[None])):
                path = root / kind / split / f"{split}{i}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                with rasterio.open(path, "w", "GTiff", 64, 64, len(array), dtype="uint8") as file:
                    file.write(array)
    return root


SIZES = ["dataset.patch_size=64", "dataset.batch_size=2"]
OPTIONS = [
    "backbone.encoder_name=mobilenetv4_conv_small",
    "backbone.weights=none",
    "dataset=folder",
    "dataset/split=subfolder",
    "dataset.classes={low: 0, high: 1}",
    "dataset.patches_per_epoch=8",
    "trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repeat")
    folder_of_images(folder / "data")
    options = [*OPTIONS, f"dataset.root={folder / 'data'}", "+trainer.max_steps=4", "run_dir=run"]
    done = command("train", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    line = (
        "Chosen: dataset.patch_size=64 (fits the images), dataset.batch_size=4 (2 steps an epoch), "
        "trainer.max_epochs=2 (for trainer.max_steps=4); give an option yourself to fix it"
    )
    assert line in done.stderr.splitlines()
    return folder / "run"


@pytest.mark.slow
def test_a_run_records_automatic_options_and_the_backbone(run: Path) -> None:
    config = OmegaConf.load(run / "config.yaml")
    assert (config.dataset.patch_size, config.dataset.batch_size, config.trainer.max_epochs) == (64, 4, 2)
    assert config.dataset.patches_per_epoch == 8 and config.model.encoder_name == "tu-mobilenetv4_conv_small"
    assert json.loads((run / "choices.json").read_text())["backbone"] == "mobilenetv4_conv_small"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["model"], summary["backbone"]) == ("Unet", "mobilenetv4_conv_small")


@pytest.mark.slow
def test_repeating_a_run_gives_the_same_bytes_and_names_changed_files(run: Path) -> None:
    folder = run.parent
    again = command("train", "from_run=run", "run_dir=again", cwd=folder)
    assert again.returncode == 0, again.stderr
    differences = [line for line in again.stderr.splitlines() if "Differs from run" in line and ": code: " not in line]
    assert not differences  # except in the code, which may change while tests run
    assert (folder / "again/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (folder / "again/choices.json").read_text() == (run / "choices.json").read_text()

    path = folder / "data/images/train/train1.tif"
    before = path.read_bytes()
    try:
        with rasterio.open(path, "r+") as file:
            file.write(255 - file.read())
        changed = command("train", "from_run=run", "run_dir=changed", "trainer.max_epochs=1", cwd=folder)
    finally:
        path.write_bytes(before)
    assert changed.returncode == 0 and "data: changed: " in changed.stderr, changed.stderr
    (line,) = [line for line in changed.stderr.splitlines() if "data: " in line]
    assert "train1" in line and "train0" not in line
    assert "cannot be changed while repeating" in error_line("train", "from_run=run", "loss=dice", cwd=folder)


@pytest.mark.slow
def test_a_changed_file_ends_the_run_which_can_be_resumed_after_restoring_it(run: Path) -> None:
    folder = run.parent
    path, unread = folder / "data/images/train/train1.tif", ["dataset.cache_gb=0", "dataset.num_workers=1"]
    before, script = path.read_bytes(), str(Path(__file__).parents[1] / "helpers/stop_requests.py")
    options = [
        *OPTIONS,
        f"dataset.root={folder / 'data'}",
        "run_dir=disturbed",
        "trainer.max_epochs=4",
        *SIZES,
        *unread,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(folder / "cache")}
    try:
        arguments = [sys.executable, script, str(path), "a batch is begun", *options, "save_every_min=0"]
        done = run_program(arguments, cwd=folder, env=environment)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        message = f"DataChangedError: {path} has changed since it was first read: put it back as it was. The last good "
        (line,) = [line for line in done.stderr.splitlines() if "Error" in line]
        assert line.startswith(message) and line.endswith("resume_from=disturbed")
        path.write_bytes(bytes(before[:-1]) + b"X")
        line = error_line("train", "resume_from=disturbed", cwd=folder)
        assert "the data has changed since the run began (changed: train/train1)" in line
        path.unlink()
        assert "train1" in error_line("train", "resume_from=disturbed", cwd=folder)
    finally:
        path.write_bytes(before)
    resumed = command("train", "resume_from=disturbed", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    whole = command("train", *options, "run_dir=undisturbed", cwd=folder)
    assert whole.returncode == 0, whole.stderr
    mine, theirs = (load_file(folder / name / "model.safetensors") for name in ("disturbed", "undisturbed"))
    assert all((mine[key] == theirs[key]).all() for key in theirs)


@pytest.mark.slow
def test_calibration_writes_a_new_model_file_that_commands_accept(run: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    done = command("evaluate", "checkpoint=run", "split=test", "calibrate=true", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    calibrated = run / "model_calibrated.safetensors"
    with safe_open(calibrated, "np") as file:
        temperature = json.loads(file.metadata()["satseg"])["temperature"]
    assert f"Temperature {temperature:.3f}" in done.stdout and temperature != 1
    assert (run / "model.safetensors").read_bytes() == before
    scores = [json.loads((run / f"evaluation/{n}/scores.json").read_text()) for n in ("test", "test_calibrated")]
    assert scores[0]["scores"] == scores[1]["scores"]
    with (run / "evaluation/test_calibrated/reliability.csv").open() as file:
        assert sum(int(row["pixels"]) for row in csv.DictReader(file)) == 3 * 64 * 64

    exported = command("export", f"checkpoint={calibrated}", "format=onnx", "output=model", cwd=run.parent)
    assert exported.returncode == 0, exported.stderr
    import onnxruntime

    session = onnxruntime.InferenceSession(str(run.parent / "model.onnx"))
    image = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64)).astype(np.float32)
    import torch

    with torch.no_grad():
        plain = load_model(run / "model.safetensors")(torch.from_numpy(image)).numpy()
    logits = session.run(None, {session.get_inputs()[0].name: image})[0]
    assert np.abs(logits - plain / temperature).max() < 1e-3


@pytest.mark.slow
def test_areas_of_a_map_are_corrected_with_the_test_images(run: Path) -> None:
    folder = run.parent
    areas = folder / "areas.csv"
    areas.write_text("class,pixels,share,area_m2,area_ha\nlow,600,0.6,6000,0.6\nhigh,400,0.4,4000,0.4\n")
    done = command("evaluate", "checkpoint=run", "split=test", f"map_areas={areas}", "output=out", cwd=folder)
    assert done.returncode == 0 and "is not a random sample of the mapped area" in done.stderr, done.stderr
    assert "only 3 independent groups of images" in done.stderr
    with (folder / "out/areas.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    with (folder / "out/confusion_matrix.csv").open() as file:
        matrix = np.array([[int(n) for n in row[1:]] for row in list(csv.reader(file))[1:]])
    shares = matrix / np.maximum(matrix.sum(0), 1)
    shares[:, matrix.sum(0) == 0] = np.eye(2)[:, matrix.sum(0) == 0]
    for name, expected in zip(("low", "high"), shares @ [0.6, 0.4], strict=True):
        row = {key: float(value) for key, value in rows[name].items() if key != "class"}
        assert row["corrected_ha"] == pytest.approx(expected)
        assert row["low_ha"] <= row["corrected_ha"] <= row["high_ha"]
    areas.write_text("class,pixels\nsea,1\n")
    assert "with the classes low, high" in error_line(
        "evaluate", "checkpoint=run", f"map_areas={areas}", "output=out2", cwd=folder
    )
