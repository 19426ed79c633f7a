"""Files whose bytes were changed at random are refused, or read as rasterio reads them."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import rasterio

from satseg.data.opening import OpenRasters, open_raster
from satseg.errors import RasterReadError

OPTION = "GDAL_PNG_WHOLE_IMAGE_OPTIM"
SCRIPT = "scripts/benchmarks/mutated_files.py"


@pytest.mark.slow
def test_some_dozens_of_changed_files_by_every_way_in(root_dir: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, str(root_dir / SCRIPT), "num=81", "seed=7", f"work={tmp_path}"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root_dir)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    counts = dict(zip(rows[0], rows[-1], strict=True))
    assert counts["files"] == "81" and int(counts["accepted"]) > 5 and int(counts["refused"]) > 20


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_a_png_that_lacks_pixels_is_refused_though_it_is_ended(name: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.png"
    image = np.random.default_rng(0).integers(0, 255, (3, 64, 64), "uint8")
    with rasterio.open(path, "w", driver="PNG", count=3, height=64, width=64, dtype="uint8") as file:
        file.write(image)
    data = path.read_bytes()
    broken = tmp_path / name
    broken.write_bytes(data[: len(data) // 2] + data[-12:])  # half of the pixels, then the right end
    for opener in (open_raster, OpenRasters().open):
        with opener(path) as file:
            np.testing.assert_array_equal(file.read(), image)
        with pytest.raises(RasterReadError, match="truncated or no raster"), opener(broken) as file:
            file.read()


@pytest.mark.parametrize("place", [30, -40, -6])
def test_a_dataset_trusts_the_fast_path_with_undamaged_pngs_alone(place: int, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    with rasterio.open(path, "w", driver="PNG", count=3, height=64, width=64, dtype="uint8") as file:
        file.write(np.random.default_rng(0).integers(0, 255, (3, 64, 64), "uint8"))
    with OpenRasters().open(path):
        assert OPTION not in rasterio.env.getenv()
    with open_raster(path):
        assert rasterio.env.getenv()[OPTION] == "NO"
    data = bytearray(path.read_bytes())
    data[place] ^= 1  # of the header's checksum, of the pixels, of the end
    path.write_bytes(data)
    files = OpenRasters()
    with pytest.raises(RasterReadError) if place > 0 else nullcontext(), files.open(path):
        assert rasterio.env.getenv()[OPTION] == "NO"
