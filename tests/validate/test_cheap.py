"""The quick check of headers before training."""

import logging

import pytest
from dataset_files import CLASSES, SIZE, read, write
from hydra import compose, initialize_config_dir

from satseg.config import CONFIG_DIR
from satseg.data import FolderDataModule
from satseg.data.splits import Subfolder
from satseg.train.build import build_datamodule, check_data
from satseg.validate.checking import check_cheaply


def open_dataset(root) -> FolderDataModule:
    return FolderDataModule(root, images="*/images/*", masks="*/masks/*", classes=CLASSES, split=Subfolder())


def move(root, name: str, **place) -> None:
    write(root / name, read(root / name), **place)


def test_valid_headers_give_no_findings(sound):
    assert check_cheaply(open_dataset(sound)) == []


def test_crs_and_adjacent_images_are_checked_from_headers_alone(sound):
    for kind in ("images", "masks"):
        move(sound, f"val/{kind}/7.tif", east=SIZE)  # beside image 0
    move(sound, "train/masks/3.tif", crs="EPSG:32634", east=3 * 10 * SIZE)
    for path in sound.glob("*/*/*.tif"):  # truncated, so that pixels cannot be read
        path.write_bytes(path.read_bytes()[:1500])
    findings = check_cheaply(open_dataset(sound))
    assert [f.check for f in findings] == ["crs", "touching"]
    assert "EPSG:32633 and EPSG:32634" in findings[0].message


def test_training_prints_one_warning_line_with_the_remedy(sound, caplog):
    for kind in ("images", "masks"):
        move(sound, f"val/{kind}/7.tif", east=SIZE)
    options = [
        "dataset=folder",
        "dataset/split=subfolder",
        f"dataset.root='{sound}'",
        "dataset.images='*/images/*'",
        "dataset.masks='*/masks/*'",
        "dataset.classes={land: 0, water: 1, forest: 2}",
    ]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", options)
    logging.getLogger("satseg").propagate = True
    with caplog.at_level(logging.WARNING, "satseg"):
        check_data(build_datamodule(cfg))
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "\n" not in line and line.startswith("Data: warning: 2 images of different splits touch each other")
    assert "train/images/0.tif" in line and "dataset/split=blocks" in line


@pytest.mark.parametrize("bands", [None, [1, 2]])
def test_unused_bands_may_differ_between_images(sound, bands):
    datamodule = FolderDataModule(
        sound, images="*/images/*", masks="*/masks/*", classes=CLASSES, split=Subfolder(), bands=bands
    )
    path = sound / "train/images/3.tif"
    write(path, read(path)[:3], east=3 * 10 * SIZE)
    assert [f.check for f in check_cheaply(datamodule)] == ([] if bands else ["bands"])
