"""Undeclared nodata values, and legitimate values that are frequent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_faults import check, finding_of, problems, rewrite
from dataset_files import SIZE, read, write

from satseg.validate.findings import Severity


def change_all_images(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in root.glob("*/images/*.tif"):
        rewrite(path.relative_to(root).as_posix(), change)(root)


def as_reflectance(image: np.ndarray) -> np.ndarray:
    return (image / 18_000).astype(np.float32)  # 0 to 0.5


def filled(value: float, bands: slice = slice(None), rows: int = 6) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        image[bands, -rows:] = value
        return image

    return change


@pytest.mark.parametrize("value", [-9999, -32768, 65535, -3.4028235e38, 255, -99, 1e20])
@pytest.mark.parametrize(("bands", "words"), [(slice(None), "every band"), (slice(1, 3), "band 2, 3")])
def test_a_fill_value_among_reflectances_is_an_error(sound, value, bands, words):
    change_all_images(sound, as_reflectance)
    rewrite("train/images/3.tif", filled(value, bands))(sound)
    validation = check(sound)
    finding = finding_of(validation, "undeclared_nodata")
    assert problems(validation) == ["undeclared_nodata"]
    assert list(finding.files) == ["train/images/3.tif"]
    assert f"up to 6.2 % of the pixels of {words}" in finding.message
    assert finding.severity == Severity.ERROR
    nodata = float(finding.repair.split("dataset.nodata=")[1].split(",")[0])
    assert np.float32(nodata) == np.float32(value)
    assert check(sound, nodata=nodata).is_sound  # the suggested repair


@pytest.mark.parametrize(("dtype", "value"), [("uint16", 65535), ("int16", -32768), ("int32", -9999)])
def test_a_fill_value_among_integers_is_found(sound, dtype, value):
    change_all_images(sound, lambda image: image.astype(dtype))
    rewrite("val/images/7.tif", filled(value))(sound)
    finding = finding_of(check(sound), "undeclared_nodata")
    assert f"{value} in up to 6.2 % of the pixels of every band" in finding.message


def test_a_fill_value_in_unlabelled_pixels_is_found_also_by_pieces(sound, monkeypatch):
    change_all_images(sound, as_reflectance)
    rewrite("train/images/3.tif", filled(-9999, rows=1))(sound)
    rewrite("train/masks/3.tif", filled(255, rows=1))(sound)
    whole = check(sound)
    monkeypatch.setattr("satseg.validate.scanning.PIECE_PIXELS", 1600)
    assert problems(whole) == ["undeclared_nodata"] and check(sound).findings == whole.findings


def test_several_fill_values_give_one_finding(sound):
    change_all_images(sound, as_reflectance)
    rewrite("train/images/3.tif", filled(-9999))(sound)
    rewrite("train/images/4.tif", filled(65535))(sound)
    finding = finding_of(check(sound), "undeclared_nodata")
    assert "-9999 in" in finding.message and "65535 in" in finding.message and "each file's own" in finding.repair


def test_declared_nodata_is_not_reported(sound):
    change_all_images(sound, as_reflectance)
    rewrite("train/images/3.tif", filled(-9999), nodata=-9999)(sound)
    assert check(sound).is_sound


def eight_bits(image: np.ndarray) -> np.ndarray:
    image = np.clip(image / 40, 0, 255).astype(np.uint8)
    image[:, :9], image[:, 20:29] = 255, 0
    return image


def saturated(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[:, 20:30, 20:60] = 4095
    return image


def clipped(image: np.ndarray) -> np.ndarray:
    image = (image / 5000).astype(np.float32)
    image[:, 20:30, 20:60] = 1
    return image


def dark_water(image: np.ndarray) -> np.ndarray:
    image[:, 30:80, 30:50] = 12
    return image


def index(image: np.ndarray) -> np.ndarray:
    """NDVI is -1 where the near infrared is 0."""
    red, infrared = image[1].astype(np.float32), 2.5 * image[3]
    infrared[30:80, 30:50] = 0
    return np.concatenate([as_reflectance(image), ((infrared - red) / (infrared + red))[None].astype(np.float32)])


def one_hot(image: np.ndarray) -> np.ndarray:
    binary = image[:2] > np.median(image[:2])
    return np.concatenate([as_reflectance(image), binary.astype(np.float32)])


def categories(image: np.ndarray) -> np.ndarray:
    bands = np.searchsorted([700, 1200, 1800], image[:1]) * 10
    return np.concatenate([image, np.where(bands == 30, 9000, bands).astype(np.uint16)])


@pytest.mark.parametrize("change", [eight_bits, saturated, clipped, dark_water, index, one_hot, categories])
def test_frequent_legitimate_values_are_not_reported(sound, change):
    for path in sound.glob("*/images/*.tif"):
        write(path, change(read(path)), east=int(path.stem) * 10 * SIZE)
    assert "undeclared_nodata" not in problems(check(sound))
