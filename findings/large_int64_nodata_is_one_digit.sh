#!/usr/bin/env bash
# rasterio writes large nodata values of int64 rasters as a single digit.
# Expected: a nodata value within the range of int64 is written and read unchanged, or refused.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): -10**17 becomes -1, and -2**63, the minimum of the dtype, becomes
# -9, without a warning; no pixel is masked then. The number is written with an exponent, and read up to the decimal
# point. -2**53 is read correctly.
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
