"""The check for TIFF blocks longer than the header allows, on valid files and with a mocked header of fewer bands."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Interleaving

from satseg.data.rasters import opening
from satseg.data.rasters.deflated import block_bytes, check_deflated_blocks
from satseg.data.rasters.opening import OpenRasters, open_raster
from satseg.errors import RasterReadError, UploadError
from satseg.serve import uploads
from satseg.serve.uploads import Limits, check_upload

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"blockysize": 7},
    "one strip": {"blockysize": 50},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32},
    "planes": {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"},
    "bits": {"nbits": 1},
    "twelve bits": {"nbits": 12, "dtype": "uint16"},
    "sparse": {"sparse_ok": True, "tiled": True, "blockxsize": 16, "blockysize": 16},
    "predictor": {"predictor": 2, "dtype": "uint16"},
    "lzw": {"compress": "lzw"},
}


def write(path: Path, **options: Any) -> np.ndarray:
    profile = {"driver": "GTiff", "count": 3, "height": 50, "width": 45, "dtype": "uint8", "compress": "deflate"}
    random = np.random.default_rng(0)
    image = random.integers(0, 2, (3, 50, 45)).astype(options.get("dtype", "uint8"))
    image[:, 32:, :16] = 0
    with rasterio.open(path, "w", **profile | options) as file:
        file.write(image)
    return image


def with_fewer_bands(source: Any, **changes: Any) -> Any:
    """Return a stand-in for an open raster whose damaged header names only one band."""
    names = ("driver", "compression", "block_shapes", "dtypes", "tags", "get_tag_item", "height", "width", "indexes")
    true = {name: getattr(source, name) for name in names}
    return SimpleNamespace(**true | {"count": 1, "interleaving": Interleaving.pixel} | changes)


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_valid_files_of_every_layout_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    image = write(path, **options)
    for opener in (open_raster, OpenRasters().open):
        with opener(path) as source:
            check_deflated_blocks(source, path, every=True)
            np.testing.assert_array_equal(source.read(), image)
    upload = check_upload(path, "image.tif", Limits(10**6, 10**6))
    assert (upload.info.width, upload.info.height) == (45, 50)


@pytest.mark.parametrize("options", [{}, {"count": 1}, {"count": 1, "nbits": 1}, {"count": 2, "interleave": "band"}])
def test_a_file_with_one_long_strip_that_gdal_reports_as_rows_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 2500, "width": 16, "dtype": "uint8", "compress": "deflate"}
    profile |= {"blockysize": 2500} | options
    image = np.random.default_rng(0).integers(0, 2, (profile["count"], 2500, 16)).astype(np.uint8)
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)
    with open_raster(path) as source:
        assert source.block_shapes[0] == (1, 16)
        check_deflated_blocks(source, path, every=True)
        np.testing.assert_array_equal(source.read(), image)
        if profile["count"] == 3:
            with pytest.raises(ValueError, match="a block holds more than the header says"):
                check_deflated_blocks(with_fewer_bands(source), path)
    assert check_upload(path, "image.tif", Limits(10**6, 10**6)).info.height == 2500


@pytest.mark.parametrize("orientation", [3, 6])
def test_all_stored_blocks_of_a_rotated_upload_are_checked(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 60, 3)).astype(np.uint8))
    tags = {274: orientation, 278: 30}  # 278: rows per strip
    stored.save(tmp_path / "image.tif", compression="tiff_adobe_deflate", tiffinfo=tags)
    sizes = []

    def recording_check(source: Any, path: Path, *, every: bool) -> None:
        sizes.append((source.height, source.width, every))
        check_deflated_blocks(source, path, every=every)

    monkeypatch.setattr(uploads, "check_deflated_blocks", recording_check)
    upload = check_upload(tmp_path / "image.tif", "image.tif", Limits(10**6, 10**6))
    assert (upload.info.height, upload.info.width) == ((300, 60) if orientation == 3 else (60, 300))
    assert sizes == [(300, 60, True)]


def test_an_oversized_first_block_is_always_found_and_later_ones_with_every(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    write(path, **LAYOUTS["tiles"])
    with rasterio.open(path) as source:
        assert block_bytes(source) == 16 * 32 * 3
        for every in (False, True):
            with pytest.raises(ValueError, match="a block holds more than the header says"):
                check_deflated_blocks(with_fewer_bands(source), path, every=every)

        def without_first_block(name: str, *domain: str, **band: int) -> str | None:
            """Hide the first block, so that only later ones are too long."""
            return None if name == "BLOCK_OFFSET_0_0" else source.get_tag_item(name, *domain, **band)

        later_blocks_only = with_fewer_bands(source, get_tag_item=without_first_block)
        check_deflated_blocks(later_blocks_only, path)
        with pytest.raises(ValueError, match="a block holds more"):
            check_deflated_blocks(later_blocks_only, path, every=True)


def test_oversized_blocks_raise_an_error_wherever_the_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, path: Path, **options: Any) -> None:
        check_deflated_blocks(with_fewer_bands(source), path, **options)

    monkeypatch.setattr(opening, "check_deflated_blocks", refuse)
    monkeypatch.setattr(uploads, "check_deflated_blocks", refuse)
    path = tmp_path / "image.tif"
    write(path)
    for opener in (open_raster, OpenRasters().open):
        for _ in range(2):
            with pytest.raises(RasterReadError, match=r"image\.tif cannot be read.*a block holds more"), opener(path):
                pass
    with pytest.raises(UploadError, match=r"^mine\.tif cannot be read: it is damaged"):
        check_upload(path, "mine.tif", Limits(10**6, 10**6))
