#!/usr/bin/env bash
# If a raster has both a nodata value and a mask, reading uses only the mask, and warping only the nodata value.
# Expected: a pixel is missing in both cases if the mask or the nodata value says so, or at least both use the same one.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): dataset_mask() hides the pixels that the internal mask hides, and
# the alpha band of WarpedVRT the nodata pixels, on the same grid; each shows what the other hides.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
image, hidden = np.full((3, 64, 64), 100, np.uint16), np.zeros((64, 64), bool)
image[:, :20], hidden[:, :20] = 65535, True
profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 3, "dtype": "uint16", "nodata": 65535}
place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, 10, 10)}
with rasterio.open("image.tif", "w", **profile, **place) as file:
    file.write(image)
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("image.tif", "r+") as file:
    file.write_mask(~hidden)

found = {}
with rasterio.open("image.tif") as file:
    found["dataset_mask"] = file.dataset_mask() == 0
    with WarpedVRT(file, add_alpha=True) as warped:
        found["WarpedVRT"] = warped.read(warped.count) == 0
missing = {way: {"nodata": bool(gone[:20, 20:].all()), "mask": bool(gone[20:, :20].all())} for way, gone in found.items()}
print("missing by nodata value and by mask:", missing)
assert not any(gone[20:, 20:].any() for gone in found.values())
assert missing == {"dataset_mask": {"nodata": False, "mask": True}, "WarpedVRT": {"nodata": True, "mask": False}}
PY
