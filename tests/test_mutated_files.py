"""Randomly mutated files are refused, or read as rasterio reads them."""

import importlib
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from satseg.data.rasters.opening import OpenRasters, open_raster
from satseg.errors import RasterReadError

OPTION = "GDAL_PNG_WHOLE_IMAGE_OPTIM"
SCRIPT = "scripts/benchmarks/mutated_files.py"
KINDS = "png_rgb,tiff_striped,mask_tiff,geojson,model,config"  # covers all input channels


@pytest.mark.slow
def test_some_mutated_files_through_all_input_channels(root_dir: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, str(root_dir / SCRIPT), "num=36", "seed=7", f"kinds={KINDS}", f"work={tmp_path}"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root_dir)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[0] == "|"]
    counts = dict(zip(rows[0], rows[-1], strict=True))
    assert counts["files"] == "36" and int(counts["accepted"]) > 2 and int(counts["refused"]) > 15
    assert {row[0].partition(":")[0] for row in rows[2:-1]} == {"predict", "api", "validate", "load_model"}
    control = re.search(r"Unchanged files accepted first: (\d+), by 4 processes", done.stdout)
    assert control and int(control[1]) == 10


def test_the_comparison_detects_different_pixels_and_polygons(
    root_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root_dir / "scripts/benchmarks")
    compare = importlib.import_module("mutated_compare")
    image = np.random.default_rng(0).integers(1, 255, (3, 40, 50), "uint8")
    profile = {"driver": "GTiff", "height": 40, "width": 50, "dtype": "uint8", "crs": "EPSG:32631"}
    profile["transform"] = rasterio.Affine(10, 0, 440_000, 0, -10, 5_000_000)
    path, map_path = tmp_path / "image.tif", tmp_path / "map.tif"
    valid = np.ones((40, 50), bool)

    def write(changed: np.ndarray) -> None:
        with rasterio.open(path, "w", count=3, **profile) as file:
            file.write(changed)

    write(image)
    with rasterio.open(map_path, "w", count=1, nodata=255, **profile) as file:
        file.write(compare.hashed(image).astype("uint8"), 1)
    compare.compare_map(map_path, path, 3)
    compare.compare_image(path, image, valid)
    write(image + (np.arange(50) == 7).astype("uint8"))
    with pytest.raises(compare.WrongError, match=r"^\d+ pixels of other numbers"):
        compare.compare_map(map_path, path, 3)
    with pytest.raises(compare.WrongError, match="pixels of other numbers"):
        compare.compare_image(path, image, valid)

    corner = (440_000, 4_999_700, 440_100, 5_000_000)  # 10 x 30 pixels
    shape = shapely.to_geojson(shapely.box(*corner))
    text = f'{{"type": "Feature", "properties": {{"class": "wood"}}, "geometry": {shape}}}'
    crs = '{"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}'
    labels = tmp_path / "labels.geojson"
    labels.write_text(f'{{"type": "FeatureCollection", "crs": {crs}, "features": [{text}]}}')
    with rasterio.open(path) as grid:
        compare.compare_polygons(labels, ("wood",), {0: 300, 255: 1700}, grid)
        with pytest.raises(compare.WrongError, match="rasterio draws"):
            compare.compare_polygons(labels, ("wood",), {0: 301, 255: 1699}, grid)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_a_png_with_missing_pixels_and_a_valid_end_raises_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.png"
    image = np.random.default_rng(0).integers(0, 255, (3, 64, 64), "uint8")
    with rasterio.open(path, "w", driver="PNG", count=3, height=64, width=64, dtype="uint8") as file:
        file.write(image)
    data = path.read_bytes()
    broken = tmp_path / name
    broken.write_bytes(data[: len(data) // 2] + data[-12:])  # half of the pixels, then the end chunk
    for opener in (open_raster, OpenRasters().open):
        with opener(path) as file:
            np.testing.assert_array_equal(file.read(), image)
        with pytest.raises(RasterReadError, match="truncated or not a raster"), opener(broken) as file:
            file.read()


@pytest.mark.parametrize("place", [30, -40, -6])
def test_the_fast_png_decoder_is_used_only_for_undamaged_files(place: int, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    with rasterio.open(path, "w", driver="PNG", count=3, height=64, width=64, dtype="uint8") as file:
        file.write(np.random.default_rng(0).integers(0, 255, (3, 64, 64), "uint8"))
    with OpenRasters().open(path):
        assert OPTION not in rasterio.env.getenv()
    with open_raster(path):
        assert rasterio.env.getenv()[OPTION] == "NO"
    data = bytearray(path.read_bytes())
    data[place] ^= 1  # in the header checksum, the pixels, or the end chunk
    path.write_bytes(data)
    files = OpenRasters()
    with pytest.raises(RasterReadError) if place > 0 else nullcontext(), files.open(path):
        assert rasterio.env.getenv()[OPTION] == "NO"
