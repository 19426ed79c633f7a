#!/usr/bin/env bash
# An alpha band masks pixels only in images of two and four bands.
# Expected: transparent pixels are masked whichever band the file marks as alpha.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): with red, green, blue and alpha, half of the pixels are masked;
# with near infrared before the alpha band, its colour interpretation is still alpha, but every pixel counts as valid.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
alpha = np.zeros((8, 8), np.uint8)
alpha[:, 4:] = 255
red, green, blue, other = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined
shares = {}
for colours in ([ColorInterp.gray], [red, green, blue], [red, green, blue, other]):
    meanings = [*colours, ColorInterp.alpha]
    count = len(meanings)
    profile = {"driver": "GTiff", "height": 8, "width": 8, "count": count, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open("image.tif", "w", transform=from_origin(500000, 5000000, 10, 10), **profile) as file:
        file.write(np.stack([np.full((8, 8), 100, np.uint8)] * (count - 1) + [alpha]))
    with rasterio.open("image.tif", "r+") as file:
        file.colorinterp = meanings
    with rasterio.open("image.tif") as file:
        assert file.colorinterp[-1] is ColorInterp.alpha
        shares[count] = float((file.read_masks(1) > 0).mean()), float((file.dataset_mask() > 0).mean())
print("valid share by number of bands (read_masks, dataset_mask):", shares)
assert shares == {2: (0.5, 0.5), 4: (0.5, 0.5), 5: (1.0, 1.0)}
PY
