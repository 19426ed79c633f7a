#!/usr/bin/env bash
# Building overviews shifts the result of a decimated nearest-neighbour read by one pixel in both directions.
# Expected: an overview by nearest neighbour contains the pixels that read(out_shape=...) selects without one.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): without overviews the lower right of each 2 x 2 pixels is
# returned, with them the upper left. An image and a mask of which only one has overviews are therefore misaligned when
# both are read at a lower resolution.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
rows, columns = np.indices((128, 128))
profile = {"driver": "GTiff", "height": 128, "width": 128, "count": 2, "dtype": "int32", "crs": "EPSG:32633"}
with rasterio.open("image.tif", "w", transform=from_origin(500000, 5000000, 10, 10), **profile) as file:
    file.write(np.stack([rows, columns]).astype(np.int32))


def second_pixel():
    """Return the row and column of the original pixel at (1, 1) of the image read at half its size."""
    with rasterio.open("image.tif") as file:
        return file.read(out_shape=(2, 64, 64))[:, 1, 1].tolist()


before = second_pixel()
with rasterio.open("image.tif", "r+") as file:
    file.build_overviews([2], Resampling.nearest)
after = second_pixel()
print("without overviews", before, "with", after)
assert before == [3, 3] and after == [2, 2]
PY
