#!/usr/bin/env bash
# Averaging 127 and 129 where nodata is 128: rasterio's three ways to downsample give three results.
# Expected: all three give 128, or all replace it by a valid neighbouring value.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): a read to a smaller shape masks every pixel, WarpedVRT gives 127
# and an overview 129, from the same file. A scene downsampled with read() therefore loses pixels although none is
# missing.
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
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
image = np.tile(np.array([127, 129], np.uint8), (64, 32))
profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8", "nodata": 128}
place = from_origin(500000, 5000000, 10, 10)
with rasterio.open("image.tif", "w", crs="EPSG:32633", transform=place, **profile) as file:
    file.write(image, 1)

found = {}
average = Resampling.average
with rasterio.open("image.tif") as file:
    found["read"] = file.read(1, out_shape=(32, 32), resampling=average, masked=True)
    coarse = {"transform": place * Affine.scale(2), "height": 32, "width": 32}
    with WarpedVRT(file, resampling=average, **coarse) as warped:
        found["WarpedVRT"] = warped.read(1, masked=True)
with rasterio.open("image.tif", "r+") as file:
    file.build_overviews([2], average)
with rasterio.open("image.tif", overview_level=0) as file:
    found["overview"] = file.read(1, masked=True)

results = {way: "missing" if pixels.mask.all() else np.unique(pixels.compressed()).tolist() for way, pixels in found.items()}
print(results)
assert results == {"read": "missing", "WarpedVRT": [127], "overview": [129]}
PY
