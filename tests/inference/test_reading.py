"""Resampling of scenes on reading: missing pixels do not affect others, and stay missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from satseg.data.rasters.header import Window, read_info
from satseg.inference.reading import SceneSource, scene_header
from satseg.inference.scene import scene_identity

SIDE = 64
MISSING = np.zeros((SIDE, SIDE), bool)
MISSING[:, :25], MISSING[41:43, 30] = True, True  # includes half and single pixels of the coarser grid


def picture(bands: int, dtype: str = "uint8", fill: int = 0) -> np.ndarray:
    """Return values from 100 to 199, and `fill` where pixels are missing."""
    image = np.random.default_rng(bands).integers(100, 200, (bands, SIDE, SIDE)).astype(dtype)
    image[:, MISSING] = fill
    return image


def write(path: Path, image: np.ndarray, *, mask: str = "", **options: Any) -> Path:
    """Write an image, with an internal mask or one in a sidecar file."""
    profile: dict[str, Any] = {"driver": "GTiff", "count": len(image), "height": SIDE, "width": SIDE}
    profile |= {"dtype": image.dtype, "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=mask == "inside"), rasterio.open(path, "w", **profile | options) as file:
        file.write(image)
        if mask:
            file.write_mask(~MISSING)
    return path


def resampled(path: Path, gsd_m: float, bands: tuple[int, ...], nodata: float | None = None) -> SceneSource:
    return SceneSource(scene_header(read_info(path), None, gsd_m), bands, nodata=nodata, resampled=True)


def read(scene: SceneSource) -> tuple[np.ndarray, np.ndarray]:
    with scene.open() as reader:
        image, valid = reader.read(Window(0, 0, scene.info.width, scene.info.height))
    return image.numpy(), valid.numpy()


def halved(image: np.ndarray, missing: np.ndarray = MISSING) -> tuple[np.ndarray, np.ndarray]:
    """Return means over blocks of 2 x 2 without missing pixels, and which blocks have any valid pixel."""
    parts = image.astype(float).reshape(len(image), SIDE // 2, 2, SIDE // 2, 2)
    present = ~missing.reshape(SIDE // 2, 2, SIDE // 2, 2)
    count = present.sum((1, 3))
    return (parts * present).sum((2, 4)) / np.maximum(count, 1), count > 0


CASES: dict[str, tuple[int, str, dict[str, Any], float | None]] = {
    "mask inside": (3, "uint8", {"mask": "inside"}, None),
    "mask beside": (3, "uint8", {"mask": "beside"}, None),
    "mask of two bands": (2, "uint16", {"mask": "inside"}, None),
    "mask and nodata=": (4, "int16", {"mask": "inside"}, -9999),
    "nodata=": (3, "uint8", {}, 0),
    "nodata= of five bands": (5, "float32", {}, 0),
    "the file's nodata": (3, "uint8", {"nodata": 0}, None),
    "nodata= over the file's": (3, "uint16", {"nodata": 7}, 0),
    "mask, and a nodata= that no pixel can have": (3, "uint8", {"mask": "inside"}, -9999),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_pixels_are_left_out_of_means_in_a_coarser_scene(case: str, tmp_path: Path) -> None:
    bands, dtype, options, nodata = CASES[case]
    image = picture(bands, dtype)
    path = write(tmp_path / "scene.tif", image, **options)
    found, valid = read(resampled(path, 20, tuple(range(1, bands + 1)), nodata))
    expected, present = halved(image)
    assert np.array_equal(valid, present)
    np.testing.assert_allclose(found[:, present], expected[:, present], atol=0.5 + 1e-6)  # integers are rounded
    with resampled(path, 20, (1,), nodata).open() as reader:
        small, seen = reader.thumbnail(SIDE // 2)
    assert np.array_equal(seen, present) and np.array_equal(small[0][present], found[0][present])


@pytest.mark.parametrize("case", CASES)
def test_a_finer_scene_has_no_values_interpolated_with_nodata(case: str, tmp_path: Path) -> None:
    bands, dtype, options, nodata = CASES[case]
    image = np.where(picture(bands, dtype) == 0, 0, 100).astype(dtype)
    path = write(tmp_path / "scene.tif", image, **options)
    found, valid = read(resampled(path, 5, (bands, 1), nodata))
    assert valid[:, 52:].mean() > 0.99 and not valid[:, :48].any()
    np.testing.assert_allclose(found[:, valid], 100, rtol=1e-6)


def test_a_pixel_missing_in_one_band_is_left_out_of_that_band(tmp_path: Path) -> None:
    image = picture(3, "float32", fill=150)
    image[1, MISSING] = -9999
    found, valid = read(resampled(write(tmp_path / "scene.tif", image, nodata=-9999), 20, (1, 2, 3)))
    (expected, present), (whole, _) = halved(image), halved(image, np.zeros_like(MISSING))
    assert np.array_equal(valid, present)
    np.testing.assert_allclose(found[1, present], expected[1, present], rtol=1e-5)
    np.testing.assert_allclose(found[::2, present], whole[::2, present], rtol=1e-5)  # the other bands have values there


def test_an_alpha_band_and_a_nodata_value_are_combined(tmp_path: Path) -> None:
    alpha = np.full((1, SIDE, SIDE), 255, np.uint8)
    alpha[:, :11] = 0
    image = picture(3)
    path = write(tmp_path / "scene.tif", np.concatenate([image, alpha]), photometric="rgb", alpha="yes")
    for nodata, missing in ((0, MISSING | (alpha[0] == 0)), (None, alpha[0] == 0)):
        found, valid = read(resampled(path, 20, (1, 2, 3), nodata))
        expected, present = halved(image, missing)
        assert np.array_equal(valid, present)
        np.testing.assert_allclose(found[:, present], expected[:, present], atol=0.5 + 1e-6)


def test_the_mask_of_a_jpeg_compressed_file_is_used(tmp_path: Path) -> None:
    write(tmp_path / "plain.tif", picture(3, fill=90), mask="inside")
    rasterio.shutil.copy(tmp_path / "plain.tif", tmp_path / "scene.tif", driver="COG", compress="JPEG", quality=95)
    assert np.array_equal(read(resampled(tmp_path / "scene.tif", 20, (1, 2, 3)))[1], halved(picture(3))[1])


def test_the_identity_of_a_scene_includes_files_behind_a_vrt_and_sidecar_masks(tmp_path: Path) -> None:
    part = write(tmp_path / "part.tif", picture(3), mask="beside")
    rasterio.shutil.copy(part, tmp_path / "scene.vrt", driver="VRT")
    for scene in (resampled(tmp_path / "scene.vrt", 20, (1, 2, 3)), resampled(part, 20, (1, 2, 3))):
        before = scene_identity(scene)
        assert scene_identity(scene) == before
        for changed in (part, tmp_path / "part.tif.msk"):
            os.utime(changed, ns=(0, before["files"][str(part)][1] + 10**9))
            after = scene_identity(scene)
            assert after != before
            before = after
