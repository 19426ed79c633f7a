#!/usr/bin/env bash
# MODE overviews of a class map in 16 or 32 bits with negative nodata: missing pixels become class 0.
# Expected: a block of nothing but nodata is nodata in the overview, as with NEAREST and AVERAGE.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): in int16 and int32 with nodata -1 or -9999 such blocks become 0,
# which is a valid class; int8 and float32 keep -1, and int16 keeps a nodata value that is not negative. Viewers that
# display overviews show the empty margin of the scene as the first class, although each pixel of the file itself is
# correct.
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


def overview(dtype: str, nodata: int, resampling: Resampling) -> list[int]:
    classes = np.full((64, 64), nodata, dtype)
    classes[:32] = 3
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": dtype, "nodata": nodata}
    with rasterio.open("map.tif", "w", crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
        file.write(classes, 1)
    with rasterio.open("map.tif", "r+") as file:
        file.build_overviews([2], resampling)
    with rasterio.open("map.tif", overview_level=0) as file:
        return np.unique(file.read(1)).astype(int).tolist()


found = {
    (dtype, nodata, way): overview(dtype, nodata, Resampling[way])
    for dtype, nodata in (("int16", -1), ("int16", -9999), ("int32", -1), ("int8", -1), ("float32", -1), ("int16", 9))
    for way in ("mode", "nearest", "average")
}
for case, values in found.items():
    print(*case, values)
wrong = [case for case, values in found.items() if values != sorted([case[1], 3])]
assert wrong == [("int16", -1, "mode"), ("int16", -9999, "mode"), ("int32", -1, "mode")], wrong
assert all(found[case] == [0, 3] for case in wrong)
PY
