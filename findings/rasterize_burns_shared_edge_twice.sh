#!/usr/bin/env bash
# Two polygons that share a level edge through pixel centres both burn that row; with an upright edge neither column is.
# Guess: a shared edge goes to exactly one of the two, as in any rule that fills a coverage without gaps and overlaps.
# Seen with rasterio 1.4.4 (GDAL 3.10.3 inside): the row belongs to both polygons, so which class it gets hangs on the
# order of features, and areas that are summed from single polygons count it twice; along columns there is no such row.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6 shapely==2.2.0
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin
from shapely.geometry import box

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)


def pixels_of(polygon):
    """Return the pixels (10, 10) that a polygon covers on a grid of ten units a side."""
    return rasterize([(polygon, 1)], out_shape=(10, 10), transform=from_origin(0, 10, 1, 1), dtype="uint8")


pairs = {
    "level": (box(0, 5.5, 10, 10), box(0, 0, 10, 5.5)),
    "upright": (box(0, 0, 5.5, 10), box(5.5, 0, 10, 10)),
}
burnt = {name: np.unique(pixels_of(a) + pixels_of(b), return_counts=True) for name, (a, b) in pairs.items()}
twice = {name: int(counts[values == 2].sum()) for name, (values, counts) in burnt.items()}
never = {name: int(counts[values == 0].sum()) for name, (values, counts) in burnt.items()}
print("pixels burnt twice:", twice, "never:", never)
assert twice == {"level": 10, "upright": 0} and never == {"level": 0, "upright": 0}
PY
