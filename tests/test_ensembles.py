"""Ensembles of cross-validation folds through the commands, against manual averages."""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import torch
from commands import command, error_line

import satseg
from satseg.runs.documents import read_json

CLASSES = {"dry": 11, "wet": 40, "rock": 255}
SIDE = 64


def write(path: Path, array: np.ndarray, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000 + 10 * SIDE * number, 0, -10, 4e6)}
    with rasterio.open(path, "w", dtype=array.dtype, **profile) as target:
        target.write(array)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two folds of 16 tiles with two 16-bit bands, whose normalisation depends on the split."""
    folder = tmp_path_factory.mktemp("folds (ä)")
    random, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    for number in range(16):
        classes = (x + 8 * number % 30 > 30 + number % 5 * 6).astype(int) + (y > 40 + number % 3 * 5)
        image = np.stack([classes * 900 + 500, 3000 - classes * 700]) * (1 + 0.1 * (number % 4))
        image = (image + random.normal(0, 40, image.shape)).clip(1).astype(np.uint16)
        write(folder / f"data/images/tile_{number:02}.tif", image, number)
        write(
            folder / f"data/masks/tile_{number:02}.tif", np.array([*CLASSES.values()], np.uint8)[classes][None], number
        )
    options = ["dataset=folder", "dataset.root=data", f"dataset.classes={str(CLASSES).replace(chr(39), '')}"]
    options += ["backbone=mobilenetv4_conv_small", "backbone.weights=none", "dataset.patch_size=64", "trainer=cpu"]
    options += ["dataset.batch_size=4", "dataset.num_workers=0", "trainer.max_epochs=2"]
    options += ["trainer.enable_progress_bar=false", "dataset.split.folds=3", "dataset.split.test=0.3"]
    for fold in (0, 1):
        done = command("train", *options, f"dataset.split.fold={fold}", f"run_dir=runs/fold_{fold}", cwd=folder)
        assert done.returncode == 0, done.stderr
    done = command("evaluate", "checkpoint=runs/fold_1", "calibrate=true", cwd=folder)
    assert done.returncode == 0, done.stderr
    image = np.concatenate([read(folder / f"data/images/tile_{n:02}.tif") for n in range(3)], axis=2)
    image[:, :20, :30] = 0
    write(folder / "scene.tif", image, 0)
    with rasterio.open(folder / "scene.tif", "r+") as target:
        target.nodata = 0
    return folder


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


MEMBERS = ("runs/fold_0/model.safetensors", "runs/fold_1/model_calibrated.safetensors")
BOTH = f"checkpoint=[{','.join(MEMBERS)}]"


def mean_probabilities(folder: Path, image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the mean of the softmax probabilities (K, H, W) of all members."""
    total = np.zeros((len(CLASSES), *image.shape[1:]))
    for member in MEMBERS:
        with torch.no_grad():
            network = satseg.load_model(folder / member)
            logits = network(torch.from_numpy(image)[None], torch.from_numpy(valid)[None])[0].double().numpy()
        shares = np.exp(logits - logits.max(0))
        total += shares / shares.sum(0) / len(MEMBERS)
    return total


def test_folds_with_different_scales_are_averaged_over_all_views(folder: Path) -> None:
    first, second = (satseg.load_model(folder / member) for member in MEMBERS)
    assert first.spec.inputs[0].scale != second.spec.inputs[0].scale
    assert first.temperature == 1 != second.temperature
    options = ["input=scene.tif", "engine=torch", "tta=flips", "probabilities=all", "probability_dtype=float32"]
    done = command("predict", BOTH, *options, "progress=false", cwd=folder)
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "runs/ensembles").glob("*/predictions/scene.tif")
    image = read(folder / "scene.tif")
    valid, expected = ~(image == 0).all(0), np.zeros(())
    for rows, cols in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        shares = mean_probabilities(folder, image[:, ::rows, ::cols].copy(), valid[::rows, ::cols].copy())
        expected = expected + shares[:, ::rows, ::cols] / 4
    found = read(made.with_name("scene_probabilities.tif"))
    np.testing.assert_allclose(found[:, valid], expected[:, valid], atol=1e-4)
    assert np.isnan(found[:, ~valid]).all() and (read(made)[0][~valid] == 255).all()
    unambiguous = np.ptp(np.sort(expected, axis=0)[-2:], axis=0) > 1e-3
    assert (read(made)[0] == expected.argmax(0))[valid & unambiguous].all()
    members = read_json(made.parents[1] / "ensemble.json")["members"]
    assert [member["sha256"] for member in members] == [
        hashlib.sha256((folder / member).read_bytes()).hexdigest() for member in MEMBERS
    ]


def test_an_ensemble_is_evaluated_on_the_common_test_split(folder: Path) -> None:
    done = command("evaluate", BOTH, cwd=folder)
    assert done.returncode == 0, done.stderr
    (place,) = (folder / "runs/ensembles").glob("*/evaluation/test_calibrated")
    names = read_json(folder / "runs/fold_0/data.json")["splits"]["test"]
    assert names == read_json(folder / "runs/fold_1/data.json")["splits"]["test"]
    matrix = np.zeros((3, 3), int)
    for name in names:
        image = read(folder / f"data/images/{name}.tif")
        shares = mean_probabilities(folder, image, np.ones(image.shape[1:], bool))
        for number, value in enumerate(CLASSES.values()):
            truth = read(folder / f"data/masks/{name}.tif")[0] == value
            matrix[number] += np.bincount(shares.argmax(0)[truth], minlength=3)
    rows = list(csv.reader((place / "confusion_matrix.csv").open()))
    found = np.array([row[1:] for row in rows[1:]], int)
    assert found.sum() == matrix.sum() and np.abs(found - matrix).sum() <= 4  # ties in float32
    iou = np.diag(found) / (found.sum(0) + found.sum(1) - np.diag(found))
    scores = read_json(place / "scores.json")
    assert scores["protocol"]["models"] == "mean of the probabilities of 2"
    assert [scores["scores"][f"iou/{name}"] for name in CLASSES] == pytest.approx(iou.tolist())
    assert "the mean of 2 models" in (place / "scores.md").read_text()
    temperatures = [member["temperature"] for member in read_json(place / "ensemble.json")["members"]]
    assert temperatures == [satseg.load_model(folder / member).temperature for member in MEMBERS]
    named = command("evaluate", "checkpoint=runs/fold_*", "output=elsewhere", cwd=folder)
    assert named.returncode == 0 and "the mean of 2 models" in named.stdout, named.stderr
    assert (folder / "elsewhere/ensemble.json").is_file()


def test_evaluating_on_training_images_of_a_member_raises_an_error(folder: Path) -> None:
    message = error_line("evaluate", BOTH, "split=val", cwd=folder)
    trained = read_json(folder / "runs/fold_1/data.json")["splits"]["train"]
    count = len(set(read_json(folder / "runs/fold_0/data.json")["splits"]["val"]) & set(trained))
    assert (
        f"runs/fold_1/model_calibrated.safetensors was trained on {count} of these" in message
        and "split=test" in message
    )
    scored = read_json(folder / "runs/fold_0/data.json")["splits"]["val"]
    repaired = folder / f"data/masks/{min(set(scored) & set(trained))}.tif"
    kept = repaired.read_bytes()
    with rasterio.open(repaired, "r+") as target:
        target.write(target.read()[:, ::-1])
    assert f"was trained on {count} of these" in error_line("evaluate", BOTH, "split=val", cwd=folder)
    repaired.write_bytes(kept)
    shutil.copytree(folder / "data", folder / "moved", dirs_exist_ok=True)
    other = ["dataset=folder", "dataset.root=moved", "dataset.classes={dry: 11, wet: 40, rock: 255}"]
    other += ["dataset.split.seed=1", "dataset.split.test=0.7"]
    message = error_line("evaluate", "checkpoint=runs/fold_0", *other, cwd=folder)
    assert "runs/fold_0 was trained on" in message and "no model was trained on" in message
    assert "repeat the dataset= and dataset/split= options of training" in message
    assert command("evaluate", "checkpoint=runs/fold_0", "split=train", cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("explain", [BOTH, "split=test", "target=dry"], "explain takes one model"),
        ("export", [BOTH], "export takes one model"),
        ("evaluate", [BOTH, "calibrate=true"], "calibrate each separately"),
        ("evaluate", ["checkpoint=[]"], "checkpoint=[]: give a run folder"),
        ("evaluate", ["checkpoint=null"], "checkpoint=null: expected a run folder"),
        ("evaluate", ["checkpoint=[runs/fold_0,[runs/fold_1]]"], "expected a run folder"),
        ("evaluate", ["checkpoint=[runs/fold_0,runs/fold_9]"], "runs/fold_9 does not exist"),
        ("evaluate", ["checkpoint=runs/none_*"], "matches no complete run"),
        ("predict", ["checkpoint=[latest,runs/fold_1]", "input=scene.tif"], "runs/fold_1 is named twice"),
        ("app", ["checkpoint=[runs/fold_0,runs/fold_9]"], "runs/fold_9 does not exist"),
    ],
)
def test_unsupported_uses_of_several_models_give_an_error_of_one_line(
    folder: Path, name: str, options: list[str], message: str
) -> None:
    assert message in error_line(name, *options, cwd=folder)


def test_map_values_mask_writes_the_values_of_the_masks(folder: Path) -> None:
    extras = ["areas=true", "vectors=gpkg", "preview=true", "engine=torch", "progress=false", "input=scene.tif"]
    for output, options in (("plain.tif", []), ("coded.tif", ["map_values=mask"]), ("plain.tif", ["map_values=class"])):
        done = command("predict", "checkpoint=runs/fold_0", f"output={output}", *options, *extras, cwd=folder)
        assert done.returncode == 0, done.stderr
    plain, coded = read(folder / "plain.tif")[0], read(folder / "coded.tif")[0]
    assert set(np.unique(plain)) <= {0, 1, 2, 255}
    for number, value in enumerate(CLASSES.values()):
        assert ((plain == number) == (coded == value)).all()
    with rasterio.open(folder / "plain.tif") as numbers, rasterio.open(folder / "coded.tif") as values:
        assert values.dtypes == ("uint8",) and values.nodata == 254 and (coded[plain == 255] == 254).all()
        for number, value in enumerate(CLASSES.values()):
            assert numbers.colormap(1)[number] == values.colormap(1)[value]
    assert (folder / "plain_areas.csv").read_text() == (folder / "coded_areas.csv").read_text()
    assert (folder / "plain_preview.png").read_bytes() == (folder / "coded_preview.png").read_bytes()
    fields = pyogrio.raw.read(folder / "coded.gpkg")[3]
    assert {(str(n), int(v)) for n, v in zip(fields[0], fields[1], strict=True)} <= set(CLASSES.items())
