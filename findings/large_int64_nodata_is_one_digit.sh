#!/usr/bin/env bash
# The nodata value of an int64 raster as rasterio writes it: large ones become a single digit.
# Guess: a value that int64 holds is written and read as it is, or refused.
# Seen with rasterio 1.4.4 (GDAL 3.10.3 inside): -10**17 becomes -1 and -2**63, the least of the dtype, -9, without a
# word; no pixel is masked then. The number is written with an exponent, and read up to the point. -2**53 comes back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
found = {}
for nodata in (-(2**31), -(2**53), -(10**17), -(2**63)):
    profile = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "int64", "nodata": nodata}
    with rasterio.open("image.tif", "w", **profile) as file:
        file.write(np.full((1, 4, 4), nodata))
    with rasterio.open("image.tif") as file:
        found[nodata] = file.nodata, bool((file.read_masks(1) == 0).all())
print(found)
assert found == {
    -(2**31): (-(2.0**31), True),
    -(2**53): (-(2.0**53), True),
    -(10**17): (-1.0, False),
    -(2**63): (-9.0, False),
}
PY
