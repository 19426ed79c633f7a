"""Validation of real data."""

import json

import numpy as np
import pytest
from commands import command
from PIL import Image

from satseg.data import FolderDataModule
from satseg.data.splits import Group, Random
from satseg.validate.checking import Validation, validate
from satseg.validate.findings import Severity

DUBAI = {
    "land": [132, 41, 246],
    "water": [226, 169, 41],
    "building": [60, 16, 152],
    "vegetation": [254, 221, 58],
    "road": [110, 193, 228],
}
OVERLAPPING = {f"{part}.jpg" for part in ("Tile 1/images/image_part_001", "Tile 3/images/image_part_009")}
IGNORED = [[155, 155, 155], [0, 0, 0]]


def check(root, **options) -> Validation:
    return validate(FolderDataModule(root, **options), workers=1, progress=False)


def dubai(shared_dir, split) -> Validation:
    """Validate the five tiles with the smallest images: 25 of 99 megapixels."""
    patterns = {"images": "Tile [12346]/images/*.jpg", "masks": "Tile [12346]/masks/*.png"}
    return check(shared_dir / "data/dubai", classes=DUBAI, ignore_values=IGNORED, split=split, **patterns)


@pytest.mark.shared
@pytest.mark.parametrize(("seed", "overlapping"), [(0, [OVERLAPPING]), (1, [])])  # both images are in one split
def test_a_random_split_of_dubai_leaks(shared_dir, seed, overlapping):
    validation = dubai(shared_dir, Random(seed=seed))
    leaking = [f for f in validation.findings if f.severity > Severity.NOTE]
    *crops, edges = leaking
    assert edges.check == "continuing_edges"
    assert "the split leaks" in edges.message and "dataset/split=group" in edges.repair
    assert len(edges.files) > 20
    assert [f.check for f in crops] == ["overlapping_crops" for _ in overlapping]
    assert [{*f.files} for f in crops] == overlapping


@pytest.mark.shared
def test_a_split_of_dubai_by_tile_does_not_leak_and_ignored_pixels_are_counted(shared_dir):
    validation = dubai(shared_dir, Group(r"Tile (\d)", val=["2"], test=["6"]))
    assert validation.is_sound
    (note,) = [f for f in validation.findings if f.check == "ignored_values"]
    masks = [np.asarray(Image.open(p).convert("RGB")) for p in (shared_dir / "data/dubai").glob("Tile [12346]/masks/*")]
    for colour in IGNORED:
        number = sum(np.count_nonzero((mask == colour).all(-1)) for mask in masks)
        assert f"({', '.join(map(str, colour))}) {number:,} px (" in note.message


@pytest.mark.shared
def test_a_sentinel_2_image_is_validated(shared_dir):
    classes = {"land": 0, "water": 1}
    patterns = {
        "images": "*_S2Hand.tif",
        "masks": "*_LabelHand.tif",
        "image_suffix": "_S2Hand",
        "mask_suffix": "_LabelHand",
    }
    root = shared_dir / "data/sen1floods11"
    validation = check(root, classes=classes, ignore_values=[-1], nodata=0, split=Random(), **patterns)
    assert [f.check for f in validation.findings if f.severity > Severity.NOTE] == [
        "split"
    ]  # one image cannot be split
    assert "ignored mask values: -1 99 px (0.038 %)" in [f.message for f in validation.findings]
    assert validation.totals["all"].class_pixels.tolist() == [192_010, 70_035]
    assert len(validation.bands) == 13 and len(validation.places) == 1


@pytest.mark.shared
def test_a_sentinel_2_image_split_into_blocks_has_no_problems_and_trains(shared_dir, tmp_path):
    options = [
        "dataset=folder",
        f"dataset.root={shared_dir / 'data/sen1floods11'}",
        "dataset.images=*_S2Hand.tif",
        "dataset.masks=*_LabelHand.tif",
        "dataset.image_suffix=_S2Hand",
        "dataset.mask_suffix=_LabelHand",
        "dataset.classes={land: 0, water: 1}",
        "dataset.ignore_values=[-1]",
        "dataset.nodata=0",
        "dataset/split=blocks",
        "dataset.split.size=128",
        "dataset.split.buffer=16",
    ]
    done = command("validate", *options, "output=report", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    notes = {found["check"]: found for found in json.loads((tmp_path / "report/report.json").read_text())["findings"]}
    assert notes.keys() == {"ignored_values", "assumed"} and "cut into 16 blocks" in notes["assumed"]["message"]
    assert notes["ignored_values"]["files"] == ["Spain_7370579_LabelHand.tif"]
    network = ["backbone=mobilenetv4_conv_small", "backbone.weights=none", "trainer=debug", "run_dir=run"]
    done = command("train", *options, *network, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "run/data.json").read_text())["windows"]) == 16
    scores = json.loads((tmp_path / "run/summary.json").read_text())["scores"]["test"]
    assert 0 <= scores["iou/land"] <= 1 and 0 <= scores["iou/water"] <= 1
