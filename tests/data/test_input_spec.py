"""The input spec of heterogeneous training images: the most common values, and the range of pixel sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from satseg.data import FolderDataModule
from satseg.data.rasters.header import read_info
from satseg.data.splits import Random
from satseg.inference.preflight import inspect
from satseg.inference.reading import SceneSource
from satseg.spec import InputSpec

SIZES = [0.2986, *[0.0746] * 7, 0.149, 0.149]  # metres; that of the first image is the rarest


def write_image(path: Path, gsd_m: float, names: tuple[str, ...] = ("red", "nir"), nodata: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(gsd_m, 0, 500_000, 0, -gsd_m, 5e6)
    profile = {"width": 32, "height": 32, "dtype": "uint16", "crs": "EPSG:32633", "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", count=len(names), nodata=nodata, **profile) as file:
        file.write(np.random.default_rng(len(path.stem)).integers(200, 900, (len(names), 32, 32)).astype("uint16"))
        file.descriptions = names
    return path


def measure_spec(root: Path, **options: object) -> tuple[InputSpec, list[str]]:
    for image in (root / "images").iterdir():
        with rasterio.open(image) as file:
            profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": None}
        (root / "masks").mkdir(exist_ok=True)
        with rasterio.open(root / "masks" / image.name, "w", **profile) as mask:
            mask.write(np.tile(np.arange(32, dtype=np.uint8) % 2, (1, 32, 1)))
    data = FolderDataModule(root, classes={"a": 0, "b": 1}, split=Random(val=0.1, test=0), num_workers=0, **options)
    data.splits["train"] = data.samples()  # all of them, in the order of their names
    data.setup()
    return data.spec.inputs[0], data.assumptions


def test_pixel_sizes_are_recorded_as_median_and_range_and_only_others_are_warned_of(tmp_path: Path) -> None:
    for number, gsd_m in enumerate(SIZES):
        write_image(tmp_path / f"images/{number}.tif", gsd_m)
    source, _ = measure_spec(tmp_path)
    assert source.gsd_m == pytest.approx(0.0746) and source.gsd_range_m == pytest.approx((0.0746, 0.2986))
    for gsd_m in (0.06, 0.0746, 0.12, 0.2986, 0.4):
        found = inspect(SceneSource(read_info(write_image(tmp_path / "scene.tif", gsd_m)), (1, 2)), source)
        assert not [w for w in found.warnings if "pixels of" in w]
    for gsd_m, times in ((0.8958, "3"), (0.0373, "0.5")):
        found = inspect(SceneSource(read_info(write_image(tmp_path / "scene.tif", gsd_m)), (1, 2)), source)
        (warning,) = found.warnings
        assert f"{times} times those of the training (0.0746 to 0.299 m, their median 0.0746 m)" in warning
        assert "set gsd_m=0.0746 " in warning


def test_the_most_common_band_names_and_nodata_are_recorded_and_differences_reported(tmp_path: Path) -> None:
    write_image(tmp_path / "images/0.tif", 1.0, ("R", "N"), nodata=7)
    for number in range(1, 5):
        write_image(tmp_path / f"images/{number}.tif", 1.0)
    source, assumptions = measure_spec(tmp_path)
    assert source.bands == ("red", "nir") and source.nodata is None
    (names,) = [line for line in assumptions if "the bands are named" in line]
    assert "red, nir in 4 training images, but otherwise in 1 (R, N in " in names and "0.tif" in names
    (nodata,) = [line for line in assumptions if "nodata values" in line]
    assert "(none in 4, 7 in 1)" in nodata and "dataset.nodata" in nodata
    source, assumptions = measure_spec(tmp_path, nodata=0)
    assert source.nodata == 0 and not [line for line in assumptions if "nodata values" in line]


def test_identical_headers_give_no_assumptions(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"images/{number}.tif", 1.0, nodata=0)
    source, assumptions = measure_spec(tmp_path)
    assert (source.nodata, source.gsd_m, source.gsd_range_m) == (0, 1.0, (1.0, 1.0))
    assert not [line for line in assumptions if "bands are named" in line or "nodata values" in line]
