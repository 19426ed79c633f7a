"""Bands that contain the label or categories, and similar bands that are legitimate."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from dataset_faults import check, finding_of, problems
from dataset_files import SIZE, make_mask, read, write
from rasterio import warp
from rasterio.features import rasterize
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from satseg.data.splits import Random
from satseg.errors import ConfigError
from satseg.validate.checking import Limits


def add_band(root: Path, make: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    for path in sorted(root.glob("*/images/*.tif")):
        mask, random = make_mask(int(path.stem)), np.random.default_rng(int(path.stem))
        band, image = make(mask, random), read(path)
        kind = np.float32 if (band % 1).any() else np.uint16  # a file has a single dtype
        write(path, np.concatenate([image, band[None]]).astype(kind), east=int(path.stem) * 10 * SIZE)


def label_with_noise(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 1000 + 700.0 * mask + random.normal(size=mask.shape) * 100


def label_of_large_numbers(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sum of two values exceeds uint16."""
    return 30_000 + 9_000.0 * mask + random.integers(0, 20, mask.shape)


def one_class(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 3000 + 2000.0 * (mask == 2) + random.normal(size=mask.shape) * 250


def blurred(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return gaussian_filter((mask == 2).astype(np.float32), 1.5) + random.normal(size=mask.shape) / 50


def distance(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return distance_transform_edt(mask != 2)


def land_cover(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    areas = zoom(random.integers(0, 7, (8, 8)), SIZE // 8, order=0)
    return np.array([10, 20, 30, 40, 50, 60, 80])[areas]


def corine(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Regions with 44 codes of three digits, a few common and most rare."""
    codes = np.array([111 + 100 * (i // 9) + 10 * (i % 9 // 3) + i % 3 for i in range(44)])
    areas = random.choice(codes, (16, 16), p=np.arange(1, 45) / 990)
    return zoom(areas, SIZE // 16, order=0)


def numbered(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 1.0 + zoom(random.integers(0, 44, (12, 12)), SIZE // 12, order=0)


def tenths(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return zoom(random.integers(0, 6, (8, 8)), SIZE // 8, order=0) / 10


def quality(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return gaussian_filter(random.normal(size=mask.shape), 5) > 0.02


def faint(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A measurement of a narrow range resampled from coarser pixels, like the cirrus band of Sentinel-2."""
    coarse = gaussian_filter(random.normal(size=(16, 16)), 1.5) * 8 + random.normal(size=(16, 16)) * 0.5
    return zoom(np.rint(coarse + 20), 6, order=0)


def coarse(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A measurement of about 50 values, resampled from coarser pixels."""
    field = gaussian_filter(random.normal(size=(24, 24)), 1.5)
    return zoom(np.rint(field * 32 + random.normal(size=field.shape) + 40), 4, order=0).clip(0)


def weather(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Temperature of a weather model: two grid cells per image, in tenths of a degree."""
    return np.round(290 + random.normal() * 2 + 0.1 * (np.arange(SIZE) > 40), 1) + np.zeros(mask.shape)


@pytest.mark.parametrize("make", [one_class, blurred, distance])
def test_a_band_that_contains_the_label_of_one_class_is_reported_with_the_class(sound, make):
    add_band(sound, make)
    validation = check(sound)
    finding = finding_of(validation, "giveaway_band")
    assert problems(validation) == ["giveaway_band"] and "band_5 gives the class forest away" in finding.message
    assert np.nan_to_num(next(b.score for b in validation.bands if b.name == "band_5")) < 0.9  # over all classes
    assert "dataset.bands='[1, 2, 3, 4]'" in finding.repair


@pytest.mark.shared
def test_near_infrared_that_separates_water_is_no_label_band_but_a_planted_one_is(shared_dir, tmp_path):
    source = shared_dir / "data/polygons_small"
    with rasterio.open(source / "lsat.tif") as file:
        image, grid = file.read(), {"crs": file.crs, "transform": file.transform}
    document = json.loads((source / "lsat_polygons.geojson").read_text())
    names = ["cleared", "fallen_dry", "forest", "water"]
    shapes = [
        (
            warp.transform_geom(document["crs"]["properties"]["name"], grid["crs"], f["geometry"]),
            f["properties"]["class"],
        )
        for f in document["features"]
    ]
    mask = rasterize(
        [(s, names.index(n)) for s, n in shapes], image.shape[1:], fill=255, dtype=np.uint8, transform=grid["transform"]
    )
    write(tmp_path / "all/images/a.tif", image, **grid)
    write(tmp_path / "all/masks/a.tif", mask[None], **grid)
    options = {"split": Random(), "classes": names}
    validation = check(tmp_path, **options)
    strong = finding_of(validation, "strong_band")
    assert "B4_dn" not in strong.message and "band_4 water (1.000" in strong.message and strong.severity == 0
    assert not {"giveaway_band"} & set(problems(validation))
    planted = np.random.default_rng(0).normal(100, 5, mask.shape) + 60 * (mask == 2)
    write(tmp_path / "all/images/a.tif", np.concatenate([image, planted[None].clip(0, 255).astype(np.uint8)]), **grid)
    finding = finding_of(check(tmp_path, **options), "giveaway_band")
    assert "band_8 gives the class forest away: alone it separates it from the rest" in finding.message


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (label_with_noise, "giveaway_band"),
        (label_of_large_numbers, "giveaway_band"),
        (lambda mask, random: mask, "giveaway_band"),
        (land_cover, "categorical_band"),
        (quality, "categorical_band"),
        (corine, "categorical_band"),
        (numbered, "categorical_band"),
        (tenths, "categorical_band"),
        (faint, None),
        (lambda mask, random: faint(mask, random) / 10_000, None),
        (coarse, None),
        (weather, None),
    ],
)
def test_label_and_categorical_bands_are_reported_and_measurements_are_not(sound, make, name):
    add_band(sound, make)
    validation = check(sound)
    assert problems(validation) == ([name] if name else [])
    assert name is None or "band_5" in finding_of(validation, name).message
    assert check(sound, bands=[1, 2, 3, 4]).is_sound  # the band is not used


def test_a_dataset_in_which_every_band_separates_the_classes_gets_one_warning(sound):
    for path in sorted(sound.glob("*/images/*.tif")):
        mask, random = make_mask(int(path.stem)), np.random.default_rng(int(path.stem))
        image = np.stack([label_with_noise(mask, random) for _ in range(3)]).astype(np.uint16)
        write(path, image, east=int(path.stem) * 10 * SIZE)
    validation = check(sound)
    finding = finding_of(validation, "easy_classes")
    assert problems(validation) == ["easy_classes"] and not validation.has_errors
    assert "each of the 3 bands alone" in finding.message and "synthetic" in finding.repair


def test_the_threshold_for_label_bands_is_stated_and_configurable(sound):
    message = finding_of(check(sound, Limits(giveaway=0.8)), "giveaway_band").message
    assert "band_4" in message and "threshold 0.8" in message
    with pytest.raises(ConfigError, match=r"giveaway=3.*from 0 to 1"):
        Limits(giveaway=3)
