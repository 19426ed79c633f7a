#!/usr/bin/env bash
# Values of a dtype that PCIDSK, Idrisi, ENVI or ILWIS rasters do not support wrap around, without a warning.
# Expected: a driver refuses a dtype that its format does not support, as ERDAS Imagine and SAGA do, or it clips the
# values and warns.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): PCIDSK (.pix) stores int32 and float64 as uint8, Idrisi (.rst)
# uint16 and int32 as int16, ENVI int8 as uint8, and ILWIS treats uint16 as int16. Parcel number 70000 becomes 112 or
# 4464, a probability of 0.9 becomes 0, class -1 becomes class 255, and the value 40000 becomes negative.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import warnings

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
PLACE = from_origin(500000, 5000000, 10, 10)


def after(driver: str, suffix: str, dtype: str, number: float) -> tuple[str, float] | str:
    """Return dtype and number of a pixel after writing and reading it."""
    profile = {"driver": driver, "height": 16, "width": 16, "count": 1, "dtype": dtype}
    path = f"{driver}_{dtype}.{suffix}"
    try:
        with rasterio.open(path, "w", crs="EPSG:32633", transform=PLACE, **profile) as file:
            file.write(np.full((16, 16), number, dtype), 1)
    except RasterioIOError:
        return "refused"
    with rasterio.open(path) as file:
        return file.dtypes[0], float(file.read(1)[0, 0])


expected = {
    ("PCIDSK", "pix", "int32", 70000): ("uint8", 112),
    ("PCIDSK", "pix", "float64", 0.9): ("uint8", 0),
    ("RST", "rst", "uint16", 40000): ("int16", -25536),
    ("RST", "rst", "int32", 70000): ("int16", 4464),
    ("ENVI", "dat", "int8", -1): ("uint8", 255),
    ("ILWIS", "mpr", "uint16", 40000): ("int32", -25536),
    ("HFA", "img", "int64", 70000): "refused",
    ("SAGA", "sdat", "int64", 70000): "refused",
}
with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)  # what rasterio warns with
    found = {case: after(*case) for case in expected}
for (driver, _, dtype, number), result in found.items():
    print(driver, dtype, number, "->", result)
assert found == expected
PY
