#!/usr/bin/env bash
# exactextract applies a file's scale, offset and mask if rasterio opened it, but not if rioxarray did.
# Expected: the values are those stored and masked pixels are left out, whichever of the supported sources is passed.
# Observed with exactextract 0.3.0, rasterio 1.4.4 and rioxarray 0.19.0: a path or a rasterio dataset gives a mean of
# 0.4 over 50 pixels, the array that rioxarray opens from the same file 102.5 over 100, without a warning. A table of
# areas or of mean reflectance therefore depends on the reader.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet \
    exactextract==0.3.0 rioxarray==0.19.0 rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
import rasterio
import rioxarray
from exactextract import exact_extract
from rasterio.transform import from_origin

print("exactextract", version("exactextract"), "rasterio", rasterio.__version__, "rioxarray", rioxarray.__version__)
pixels = np.full((10, 10), 5, np.uint8)
pixels[:, 5:] = 200
profile = {"driver": "GTiff", "height": 10, "width": 10, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
with (
    rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
    rasterio.open("image.tif", "w", transform=from_origin(500000, 5000000, 10, 10), **profile) as file,
):
    file.write(pixels, 1)
    file.write_mask(pixels == 5)
    file.scales, file.offsets = (0.1,), (-0.1,)

corners = [[500000, 4999900], [500100, 4999900], [500100, 5000000], [500000, 5000000], [500000, 4999900]]
zone = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}}
by_rasterio, by_rioxarray = rasterio.open("image.tif"), rioxarray.open_rasterio("image.tif")
found = {}
for name, source in {"path": "image.tif", "rasterio": by_rasterio, "rioxarray": by_rioxarray}.items():
    told = exact_extract(source, zone, ["mean", "count"])[0]["properties"]
    found[name] = round(told["mean"], 6), told["count"]
by_rasterio.close()
print("mean and count of one zone:", found)
assert found == {"path": (0.4, 50.0), "rasterio": (0.4, 50.0), "rioxarray": (102.5, 100.0)}
PY
