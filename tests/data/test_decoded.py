"""The cache of decoded images: shared by the workers of a loader, read-only, limited in size, and exact."""

import multiprocessing
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st

from satseg.data.folder import FolderDataModule
from satseg.data.rasters.decoded import DecodedImageCache
from satseg.data.rasters.opening import OpenRasters
from satseg.data.rasters.raster import read_image
from satseg.data.splits import Random
from satseg.errors import ConfigError, RasterReadError

BANDS, SIDE = 3, 96
BYTES = SIDE * SIDE * (BANDS * 2 + 2)  # of an image of uint16 with its mask and valid pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    shape: dict[str, Any] = {"driver": "GTiff", "width": SIDE, "height": SIDE}
    for number in range(6):
        for kind, count, dtype in (("images", BANDS, "uint16"), ("masks", 1, "uint8")):
            (tmp_path / kind).mkdir(exist_ok=True)
            place = rasterio.Affine(10, 0, 5e5 + 2000 * number, 0, -10, 4.6e6)
            profile = shape | {"count": count, "dtype": dtype, "crs": "EPSG:32633", "transform": place}
            with rasterio.open(tmp_path / kind / f"{number}.tif", "w", **profile) as file:
                file.write(random.integers(0, 2 if kind == "masks" else 9000, (count, SIDE, SIDE)).astype(dtype))
    return tmp_path


def module(root: Path, **options: Any) -> FolderDataModule:
    options = {"num_workers": 0, "patch_size": 32, "batch_size": 4, "patches_per_epoch": 48} | options
    data = FolderDataModule(root, classes=["low", "high"], split=Random(), **options)
    data.setup()
    return data


def batches(data: FolderDataModule) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(batch["image"], batch["mask"]) for batch in islice(data.train_dataloader(), 12)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [0, 2, 6])
def test_caching_does_not_change_patches(root: Path, workers: int, kept: int) -> None:
    expected = batches(module(root, cache_gb=0))
    found = batches(module(root, cache_gb=kept * (BYTES + 128) / 1e9, num_workers=workers))
    assert len(found) == 12
    for (image, mask), (own_image, own_mask) in zip(expected, found, strict=True):
        assert torch.equal(image, own_image) and torch.equal(mask, own_mask)


def test_an_image_decoded_by_one_worker_is_not_decoded_again(root: Path) -> None:
    data = module(root, num_workers=2)
    _ = data.spec  # computed in this process
    decoded = data.reader.decoded
    assert decoded is not None
    paths = sorted((root / "images").glob("*.tif"))
    assert all(path in decoded for path in paths)
    assert len(batches(data)) == 12
    cached = [path for path in paths if decoded.get(path) is not None]
    assert {s.image for s in data.splits["train"]} <= set(cached)
    for path in cached:
        arrays = decoded.get(path)
        assert arrays is not None and not any(array.flags.writeable for array in arrays)
        with rasterio.open(path) as file:
            assert np.array_equal(arrays[0], file.read())
        path.write_bytes(b"")  # a second read would fail
    assert len(batches(data)) == 12


def test_the_cache_stays_within_its_limit(root: Path) -> None:
    decoded = module(root, cache_gb=2.5 * BYTES / 1e9).reader.decoded
    assert decoded is not None
    assert [path in decoded for path in sorted((root / "images").glob("*.tif"))].count(True) == 2


def _fill(decoded: DecodedImageCache, arrays: Any) -> None:
    decoded.put(Path("b"), arrays)


@given(bands=st.integers(1, 9), height=st.integers(1, 70), width=st.integers(1, 70), dtype=st.sampled_from("BHhIfd"))
def test_arrays_of_any_shape_and_dtype_are_cached_exactly(bands: int, height: int, width: int, dtype: str) -> None:
    random = np.random.default_rng(0)
    shape_and_dtype = (bands, height, width), dtype
    decoded = DecodedImageCache({Path(name): shape_and_dtype for name in "abc"}, 1 << 22)
    arrays = {
        Path(name): (
            random.integers(0, 100, (bands, height, width)).astype(dtype),
            random.integers(0, 9, (height, width), np.uint8),
            random.random((height, width)) < 0.5,
        )
        for name in "abc"
    }
    for path, own in arrays.items():
        assert decoded.get(path) is None
        decoded.put(path, own)
    for path, own in arrays.items():
        found = decoded.get(path)
        assert found is not None
        for array, expected in zip(found, own, strict=True):
            assert array.dtype == expected.dtype and np.array_equal(array, expected)


def test_forked_processes_share_the_cache_and_a_pickled_copy_is_empty() -> None:
    decoded = DecodedImageCache({Path("b"): ((1, 2, 2), "uint8")}, 1000)
    ones = np.ones((1, 2, 2), np.uint8), np.ones((2, 2), np.uint8), np.ones((2, 2), bool)
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(decoded, ones))
    process.start()
    process.join()
    found = decoded.get(Path("b"))
    assert process.exitcode == 0 and found is not None and np.array_equal(found[0], ones[0])
    assert pickle.loads(pickle.dumps(decoded)).get(Path("b")) is None


@pytest.mark.parametrize("side", [10**7, 10**10])
def test_a_cache_larger_than_memory_raises_an_error_that_names_the_option(side: int) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.cache_gb=1e\+12: .* set a lower value\.$"):
        DecodedImageCache({Path("a"): ((1, side, side), "uint8")}, 10**21)


def test_files_stay_open_up_to_the_limit_and_errors_name_a_broken_file(root: Path) -> None:
    files = OpenRasters(limit=2)
    paths = sorted((root / "images").glob("*.tif"))
    for path in [*paths, *paths]:
        with files.open(path) as source, rasterio.open(path) as again:
            assert np.array_equal(source.read(), again.read())
    opened = {path.resolve() for path in Path("/proc/self/fd").iterdir()}
    assert opened & set(paths) == set(paths[-2:])
    with files.open(paths[-1]) as first:
        pass
    with files.open(paths[-1]) as second:
        assert second is first
    with pytest.raises(RasterReadError, match=r"none\.tif is not there"), files.open(root / "none.tif"):
        pass
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[: len(content) // 2])
    for _ in range(2):
        with pytest.raises(RasterReadError, match=r"0\.tif cannot be read; it is truncated or not a raster"):
            read_image(paths[0], opener=files.open)
    paths[0].write_bytes(content)
    assert read_image(paths[0], opener=files.open)[0].shape == (BANDS, SIDE, SIDE)
