#!/usr/bin/env bash
# A downsampling read by cubic or Lanczos of an image with a mask returns valid pixels of 0 along the edge of the mask.
# Expected: a valid pixel is computed from valid pixels only, so in an image of one value it has that value.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): the image is 100 where valid and 7 where masked; reads of half the
# size by cubic and Lanczos contain valid pixels of 0, a value that does not occur in the file. Bilinear, average and
# cubic spline do not, and no method does if the same pixels are missing by a nodata value. A network sees a black line
# along the edge of the swath.
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
pixels = np.full((64, 64), 100, np.uint8)
pixels[:, :20] = 7
profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8"}
place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, 10, 10)}
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("mask.tif", "w", **profile, **place) as file:
    file.write(pixels, 1)
    file.write_mask(pixels == 100)
with rasterio.open("nodata.tif", "w", nodata=7, **profile, **place) as file:
    file.write(pixels, 1)

found = {}
for way in ("bilinear", "average", "cubic_spline", "cubic", "lanczos"):
    for kind in ("mask", "nodata"):
        with rasterio.open(f"{kind}.tif") as file:
            half = file.read(1, out_shape=(32, 32), resampling=Resampling[way], masked=True)
        found[way, kind] = np.unique(half.compressed()).tolist()
print(found)
assert found["cubic", "mask"] == found["lanczos", "mask"] == [0, 100]
assert [case for case, values in found.items() if values != [100]] == [("cubic", "mask"), ("lanczos", "mask")]
PY
