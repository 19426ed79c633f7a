#!/usr/bin/env bash
# A raster that has a nodata value and a mask: reading takes the mask alone, warping the nodata value alone.
# Guess: a pixel is missing in both where the mask or the nodata value says so, or at least the same one counts in both.
# Seen with rasterio 1.4.4 (GDAL 3.10.3 inside): dataset_mask() hides what the internal mask hides, and the alpha band of
# WarpedVRT what is nodata, on the same grid. What one of them hides, the other shows.
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
told = {way: {"nodata": bool(gone[:20, 20:].all()), "mask": bool(gone[20:, :20].all())} for way, gone in found.items()}
print("missing where it is", told)
assert not any(gone[20:, 20:].any() for gone in found.values())
assert told == {"dataset_mask": {"nodata": False, "mask": True}, "WarpedVRT": {"nodata": True, "mask": False}}
PY
