"""Training on folders of images: assumptions, faults in the data, and real datasets."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_module
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from satseg.config import CONFIG_DIR

SMALL = [
    "model=fpn",
    "backbone=mobilenetv4_conv_small",
    "backbone.weights=none",
    "dataset.patch_size=64",
    "dataset.batch_size=2",
    "trainer=debug",
    "run_dir=run",
]


def train(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_module("satseg.train", *SMALL, *options, cwd=cwd, environment=os.environ | {"OMP_NUM_THREADS": "1"})


def spec(cwd: Path) -> dict:
    return json.loads((cwd / "run/data.json").read_text())["spec"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write a folder of photographs and grey masks."""
    random = np.random.default_rng(0)
    root = tmp_path / "my data (1), new=ü"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for i in range(8):
        Image.fromarray(random.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(root / f"images/{i}.jpg")
        Image.fromarray(random.choice(np.array([0, 3, 7], np.uint8), (64, 80))).save(root / f"masks/{i}.png")
    return root


def test_training_needs_only_a_folder_and_reports_assumptions_and_findings(images: Path, tmp_path: Path) -> None:
    for path in (images / "images").iterdir():  # all at the same position
        path.with_suffix(".jgw").write_text("10\n0\n0\n-10\n500000\n5000000\n")
    done = train(tmp_path, "dataset=folder", f"dataset.root={images}")
    assert done.returncode == 0, done.stderr
    assert "Assumed: 8 pairs" in done.stderr and "3 classes, found in the masks" in done.stderr
    assert len(spec(tmp_path)["class_names"]) == 3
    found = json.loads((tmp_path / "run/findings.json").read_text())["findings"]
    assert [(f["check"], f["severity"], len(f["files"])) for f in found] == [("overlap", "error", 8)]
    assert found[0]["message"] in done.stderr
    page = (tmp_path / "run/report.html").read_text()
    errors = re.findall(r'<div class="finding error">.*?</div>', page, re.DOTALL)
    assert len(errors) == 1 and "8 images of different splits overlap" in errors[0] and "images/7.jpg" in errors[0]
    order = [
        page.index(text) for text in (errors[0], "Scores (test)</h2>", "Scores (validation)</h2>", "Training</h2>")
    ]
    assert order == sorted(order)
    facts = (
        "found in the masks",
        "FPN on mobilenetv4_conv_small",
        "random weights",
        "6 training, 1 validation, 1 test",
    )
    assert all(text in page for text in (*facts, "0.041 megapixels", "1 of 1 epoch ", "CPU"))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("empty", "no folders of images and masks were recognised"),
        ("unpaired", "1 images have no mask, the first is images/8.jpg"),
        ("size", "64x64"),
        ("value", "5.png"),
        ("truncated", "4.jpg"),
        ("bands", "has 1 bands, but the images before it have 3"),
    ],
)
def test_faults_in_the_data_give_an_error_of_one_line_before_training(
    images: Path, tmp_path: Path, fault: str, expected: str
) -> None:
    options = ["dataset=folder", f"dataset.root={images}"]
    if fault == "empty":
        shutil.rmtree(images / "images")
    elif fault == "unpaired":
        shutil.copy(images / "images/0.jpg", images / "images/8.jpg")
    elif fault == "size":
        Image.new("L", (64, 64)).save(images / "masks/3.png")
    elif fault == "value":
        Image.fromarray(np.full((64, 80), 200, np.uint8)).save(images / "masks/5.png")
        options.append("dataset.classes={a: 0, b: 3, c: 7}")
    elif fault == "truncated":
        content = (images / "images/4.jpg").read_bytes()
        (images / "images/4.jpg").write_bytes(content[: len(content) // 2])
    elif fault == "bands":
        Image.new("L", (80, 64)).save(images / "images/2.jpg")
    done = train(tmp_path, *options)
    lines = [line for line in done.stderr.splitlines() if "Error" in line]
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert expected in lines[0]
    assert not (tmp_path / "run/model.safetensors").exists()


@pytest.mark.shared
@pytest.mark.slow
def test_the_dubai_configuration_splits_the_download_by_tiles(shared_dir: Path, tmp_path: Path) -> None:
    root = shared_dir / "data/dubai"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        dataset = compose("train", ["dataset=dubai", f"dataset.root={root}"]).dataset
    splits = instantiate(dataset, _convert_="all").splits
    tiles = {split: {sample.name.split("/")[0] for sample in samples} for split, samples in splits.items()}
    assert tiles == {
        "train": {"Tile 1", "Tile 3", "Tile 4", "Tile 5", "Tile 7"},
        "val": {"Tile 2"},
        "test": {"Tile 6", "Tile 8"},
    }
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 45, "val": 9, "test": 18}


@pytest.mark.shared
def test_two_dubai_tiles_train_with_pretrained_weights(shared_dir: Path, tmp_path: Path) -> None:
    weights = shared_dir / "weights/tf_efficientnet_lite0.safetensors"
    options = ["backbone=tf_efficientnet_lite0", f"backbone.weights={weights}"]
    options += [
        "dataset.images=Tile [12]/images/*.jpg",
        "dataset.masks=Tile [12]/masks/*.png",
        "dataset.split.test=null",
    ]
    done = train(tmp_path, "dataset=dubai", f"dataset.root={shared_dir / 'data/dubai'}", *options)
    assert done.returncode == 0, done.stderr
    assert spec(tmp_path)["class_names"] == ["land", "water", "building", "vegetation", "road"]


@pytest.mark.shared
def test_a_sentinel_2_image_trains_with_selected_bands_and_ignored_pixels(shared_dir: Path, tmp_path: Path) -> None:
    for source in (shared_dir / "data/sen1floods11").rglob("*.tif"):
        for place in ("train", "val", "test"):
            (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / "data" / place / source.name)
    options = [
        "dataset=folder",
        "dataset/split=subfolder",
        f"dataset.root={tmp_path / 'data'}",
        "dataset.images='*/*_S2Hand.tif'",
        "dataset.masks='*/*_LabelHand.tif'",
        "dataset.image_suffix=_S2Hand",
        "dataset.mask_suffix=_LabelHand",
        "dataset.classes={land: 0, water: 1}",
        "dataset.ignore_values=[-1]",
        "dataset.bands=[2,3,4,8]",
    ]
    done = train(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    source = spec(tmp_path)["inputs"][0]
    assert len(source["bands"]) == 4 and source["dtype"] == "int16" and source["nodata"] == 0
    assert source["statistics"] is not None and len(source["mean"]) == 4
