"""Masks on a different pixel grid than their images, against positions computed in the tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from georeferenced_rasters import at, write
from rasterio.enums import ColorInterp
from rasterio.warp import transform

from satseg.data.folder import FolderDataModule
from satseg.data.rasters.header import Window
from satseg.data.splits import Blocks, Splits
from satseg.errors import DataError, MaskValueError, SizeMismatchError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = {"water": 0, "soil": 1, "wood": 2}


def all_train(samples: Any, root: Path) -> Splits:
    return {"train": list(samples), "val": list(samples)[:1], "test": []}


def module(root: Path, **options: Any) -> FolderDataModule:
    defaults = {"classes": CLASSES, "split": all_train, "num_workers": 0, "patch_size": 32, "batch_size": 2}
    found = FolderDataModule(root, **(defaults | options))
    found.setup()
    return found


def pair(root: Path, labels: np.ndarray, place: dict[str, Any], **options: Any) -> Path:
    """Write an image of 60 x 80 pixels of 10 m, and a mask with the given georeference."""
    write(root / "images/a.tif", np.ones((60, 80), np.uint16), **at(0, 0))
    return write(root / "masks/a.tif", labels, **place, **options)


def labels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, (height, width)).astype(np.uint8)


def test_coarser_masks_are_resampled_by_nearest_neighbour_and_pixels_outside_are_ignored(tmp_path: Path) -> None:
    coarse = labels(10, 30)
    pair(tmp_path, coarse, at(-300, 150, 30))  # pixels of 30 m; the image's rows 15 to 44, and more to both sides
    data = module(tmp_path)
    mask = data.reader.read(data.samples()[0])[1]
    expected = np.full((60, 80), 255, np.uint8)
    expected[15:45, :60] = np.kron(coarse, np.ones((3, 3), np.uint8))[:, 30:]
    assert (mask == expected).all()
    assert any("1 masks lie on other pixel grids than their images, such as a.tif" in note for note in data.assumptions)
    assert (data.class_counts == np.bincount(expected.ravel(), minlength=256)[:3]).all()


def test_finer_masks_are_sampled_at_the_centres_of_image_pixels(tmp_path: Path) -> None:
    fine = labels(300, 400)
    pair(tmp_path, fine, at(0, 0, 2))
    mask = module(tmp_path).reader.read(module(tmp_path).samples()[0])[1]
    assert (mask == fine[2::5, 2::5]).all()


def geographic_grid(height: int, width: int) -> dict[str, Any]:
    (west, east), (north, south) = transform("EPSG:32633", "EPSG:4326", [500_000, 500_800], [4_600_000, 4_599_400])
    affine = rasterio.Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
    return {"crs": "EPSG:4326", "transform": affine}


def test_warping_a_mask_from_another_crs_does_not_depend_on_the_window(tmp_path: Path) -> None:
    geographic = labels(30, 40).repeat(10, 0).repeat(10, 1)
    pair(tmp_path, geographic, geographic_grid(300, 400))
    data = module(tmp_path)
    sample = data.samples()[0]
    mask = data.reader.read(sample)[1]
    rows, cols = np.indices((60, 80))
    xs, ys = 500_000 + 10 * (cols.ravel() + 0.5), 4_600_000 - 10 * (rows.ravel() + 0.5)
    lon, lat = transform("EPSG:32633", "EPSG:4326", xs, ys)
    col, row = ~geographic_grid(300, 400)["transform"] @ (np.array(lon), np.array(lat))
    inside = (col >= 0) & (col < 400) & (row >= 0) & (row < 300)
    expected = np.full(60 * 80, 255)
    expected[inside] = geographic[row[inside].astype(int), col[inside].astype(int)]
    assert (mask.ravel() == expected).mean() > 0.995  # GDAL's warp is accurate to an eighth of a pixel
    for window in (Window(7, 3, 20, 30), Window(50, 40, 30, 20)):
        part = data.reader.read(sample, window)[1]
        assert (part == mask[window.row : window.row + window.height, window.col : window.col + window.width]).all()


def test_warping_distinguishes_nodata_from_class_zero(tmp_path: Path) -> None:
    coarse = labels(20, 27)
    coarse[4:8] = 99
    pair(tmp_path, coarse, at(0, 0, 30), nodata=99)
    mask = module(tmp_path).reader.read(module(tmp_path).samples()[0])[1]
    expected = np.kron(np.where(coarse == 99, 255, coarse), np.ones((3, 3)))[:, :80]
    assert (mask == expected).all() and (mask == 0).any()
    pair(tmp_path, np.where(coarse == 99, 3, coarse).astype(np.uint8), at(0, 0, 30))
    with pytest.raises(MaskValueError, match=r"a\.tif holds value 3, but the dataset has 3 classes"):
        _ = module(tmp_path).spec


@pytest.mark.parametrize("hiding", ["mask", "alpha"])
def test_warping_ignores_labels_masked_by_a_mask_band_or_an_alpha_band(hiding: str, tmp_path: Path) -> None:
    coarse, hidden = labels(20, 27), np.zeros((20, 27), bool)
    hidden[4:8], hidden[:, 20] = True, True
    bands = [coarse, np.where(hidden, 0, 255).astype(np.uint8)] if hiding == "alpha" else [coarse]
    pair(tmp_path, np.stack(bands), at(0, 0, 30), nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "masks/a.tif", "r+") as file:
        if hiding == "mask":
            file.write_mask(~hidden)
        else:
            file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    mask = module(tmp_path).reader.read(module(tmp_path).samples()[0])[1]
    assert (mask == np.kron(np.where(hidden, 255, coarse), np.ones((3, 3)))[:, :80]).all()


def test_colour_masks_are_warped(tmp_path: Path) -> None:
    coarse = labels(20, 27)
    palette = np.array([[0, 0, 255], [150, 100, 0], [0, 120, 0]], np.uint8)
    pair(tmp_path, palette[coarse].transpose(2, 0, 1), at(0, 0, 30))
    data = module(tmp_path, classes={n: c.tolist() for n, c in zip(CLASSES, palette, strict=True)})
    assert (data.reader.read(data.samples()[0])[1] == np.kron(coarse, np.ones((3, 3)))[:, :80]).all()


def test_a_mask_of_another_size_needs_a_georeference_and_must_overlap_its_image(tmp_path: Path) -> None:
    pair(tmp_path, labels(30, 40), {})
    with pytest.raises(SizeMismatchError, match=r"80x60 pixels, but its mask .* is 40x30"):
        module(tmp_path)
    pair(tmp_path, labels(30, 40), at(5_000, 0, 20))
    with pytest.raises(DataError, match=r"a\.tif and its mask .* lie in different places"):
        module(tmp_path)


def test_a_mask_of_the_same_size_is_warped_only_if_its_georeference_differs_by_half_a_pixel(tmp_path: Path) -> None:
    numbers = labels(60, 80)
    for place in ({}, at(0, 0), at(4, -4)):  # less than half a pixel of 10 m
        pair(tmp_path, numbers, place)
        data = module(tmp_path, images="images", masks="masks")
        assert (data.reader.read(data.samples()[0])[1] == numbers).all() and not data.assumptions
    pair(tmp_path, numbers, at(30, 0))
    mask = module(tmp_path).reader.read(module(tmp_path).samples()[0])[1]
    assert (mask[:, :3] == 255).all() and (mask[:, 3:] == numbers[:, :-3]).all()


def test_blocks_of_a_scene_use_warped_masks(tmp_path: Path) -> None:
    coarse = labels(20, 27)
    pair(tmp_path, coarse, at(0, 0, 30))
    expected = np.kron(coarse, np.ones((3, 3), np.uint8))[:, :80]
    data = module(tmp_path, split=Blocks(20, 4))
    for sample in data.samples_of("train"):
        col, row, width, height = sample.window or (0, 0, 0, 0)
        assert (data.reader.read(sample)[1] == expected[row : row + height, col : col + width]).all()


def test_grids_without_a_transformation_between_them_raise_an_error_that_names_both_files(tmp_path: Path) -> None:
    numbers = labels(60, 80)
    local = {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": at(0, 0)["transform"]}
    pair(tmp_path, numbers, local)  # its image is in UTM
    with pytest.raises(DataError, match=r"masks/a\.tif cannot be warped onto .*images/a\.tif \(coordinates cannot be"):
        module(tmp_path)
