#!/usr/bin/env bash
# A masked, boundless read with a fill value returns nodata pixels as valid.
# Expected: fill_value applies only outside the raster; pixels with the declared nodata value stay masked.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): they stay masked without fill_value. With it, the nodata value is
# returned as a valid number, even if the window lies completely inside the raster and nothing is filled.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
image = np.full((4, 4), 7, np.int16)
image[0, 0] = -9999
profile = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "int16", "nodata": -9999}
with rasterio.open("image.tif", "w", crs="EPSG:32633", transform=from_origin(500000, 5000000, 10, 10), **profile) as file:
    file.write(image, 1)

with rasterio.open("image.tif") as file:
    inside = Window(0, 0, 4, 4)
    plain = file.read(1, window=inside, masked=True, boundless=True)
    filled = file.read(1, window=inside, masked=True, boundless=True, fill_value=0)
print("masked without fill_value:", bool(np.ma.getmaskarray(plain)[0, 0]))
print("masked with fill_value=0:", bool(np.ma.getmaskarray(filled)[0, 0]), "and the pixel is", filled.data[0, 0])
assert np.ma.getmaskarray(plain)[0, 0] and not np.ma.getmaskarray(filled)[0, 0] and filled.data[0, 0] == -9999
PY
