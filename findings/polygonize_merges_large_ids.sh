#!/usr/bin/env bash
# rasterio.features.shapes accepts float64 but merges regions of different values: it works in float32.
# Expected: float64, which the documentation lists as accepted, distinguishes integers up to 2^53.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): 16777216 and 16777217 (2^24 and 2^24 + 1) become one polygon,
# without a warning; as int32 they stay two. Parcel numbers of that size are common in cadastres.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.features import shapes

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
parcels = np.array([[2**24, 2**24 + 1]])
found = {dtype: len(list(shapes(parcels.astype(dtype)))) for dtype in ("int32", "float64")}
print("polygons of two parcels:", found)
assert found == {"int32": 2, "float64": 1}
PY
