"""Valid pixels of rasters whose bands differ in nodata, mask or dtype, in every reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from georeferenced_rasters import write
from mixed_band_rasters import FIRST, KINDS, SIDE, MixedRaster, fifth_band_alpha, two_dtypes

from satseg.data.folder import FolderDataModule
from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.raster import read_image
from satseg.data.rasters.stacks import Stack, write_stack
from satseg.data.splits import Subfolder


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_is_invalid_if_any_band_lacks_it(kind: Callable[[Path], MixedRaster], tmp_path: Path) -> None:
    path, expected, missing = kind(tmp_path)
    image, valid = read_image(path, bands=[1, 2, 3])
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(valid, ~missing)
    part, inside = read_image(path, Window(-3, 5, 30, 70), [3, 1])
    np.testing.assert_array_equal(part[:, :59, 3:], expected[[2, 0], 5:, :27])
    expected_valid = read_image(path, bands=[3, 1])[1]
    np.testing.assert_array_equal(inside, np.pad(expected_valid[5:, :27], ((0, 11), (3, 0))))


def test_an_alpha_band_is_data_if_it_is_requested(tmp_path: Path) -> None:
    path, _, _ = fifth_band_alpha(tmp_path)
    assert read_info(path).bands == (1, 2, 3, 4)
    image, valid = read_image(path, bands=[1, 5])
    assert valid.all() and np.array_equal(image[1] == 0, FIRST)


def test_selected_bands_of_one_dtype_keep_it(tmp_path: Path) -> None:
    path, expected, _ = two_dtypes(tmp_path)
    image, _ = read_image(path, bands=[2, 1])
    assert (image.dtype, read_info(path).dtype, read_info(path).nodata) == (np.uint16, "float32", None)
    np.testing.assert_array_equal(image, expected[[1, 0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache_gb", [0, 1])
def test_training_excludes_pixels_that_any_band_lacks(
    kind: Callable[[Path], MixedRaster], cache_gb: float, tmp_path: Path
) -> None:
    mask = np.tri(SIDE, dtype=np.uint8)
    for split in ("train", "val"):
        path, expected, missing = kind(tmp_path / "parts" / split)
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "masks").mkdir()
        with rasterio.open(path) as source:
            place = {"crs": source.crs, "transform": source.transform}
        shown = tmp_path / split / "images" / f"a{path.suffix}"
        if path.suffix == ".vrt":
            shown.write_text(path.read_text().replace('relativeToVRT="1">', f'relativeToVRT="0">{path.parent}/'))
        else:
            path.rename(shown)
        write(tmp_path / split / "masks/a.tif", mask, **place)
    module = FolderDataModule(
        tmp_path, images="*/images/*", masks="*/masks/*", bands=[1, 2, 3], classes=["a", "b"], split=Subfolder(),
        num_workers=0, cache_gb=cache_gb, patch_size=32,
    )  # fmt: skip
    module.setup()
    (sample,) = module.samples_of("train")
    if cache_gb:
        module.reader.cache_decoded([sample], cache_gb)
    for _ in range(2):  # from the file, then from the cache
        image, labels, valid = module.reader.read(sample)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(valid, ~missing)
        np.testing.assert_array_equal(labels, mask)
    spec = module.spec.inputs[0]
    assert spec.dtype == str(expected.dtype) and spec.nodata is None
    assert np.allclose(spec.statistics.mean, expected[:, ~missing].mean(1), rtol=1e-3)


def test_the_masks_of_all_files_of_a_stack_are_combined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
    coarse = place | {"transform": rasterio.Affine(20, 0, 500_000, 0, -20, 4e6)}
    files = {
        "a": write(tmp_path / "a.tif", np.full((SIDE, SIDE), 9, np.uint8), **place),
        "b": write(tmp_path / "b.tif", np.full((SIDE // 2, SIDE // 2), 9, np.uint8), **coarse),
    }
    masks = {"a": np.ones((SIDE, SIDE), bool), "b": np.ones((SIDE // 2, SIDE // 2), bool)}
    masks["a"][:7], masks["b"][:, 25:] = False, False
    for band, file in files.items():
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as target:
            target.write_mask(masks[band])
    _, valid = read_image(write_stack(Stack("s", files)))
    np.testing.assert_array_equal(valid, masks["a"] & np.kron(masks["b"], np.ones((2, 2), bool)))
