#!/usr/bin/env bash
# Two polygons that share a horizontal edge through pixel centres both burn that row; with a vertical edge, no column is
# burnt twice.
# Expected: each pixel on a shared edge belongs to exactly one of the two, as in any fill rule without gaps and
# overlaps.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): the row belongs to both polygons, so its class depends on the
# order of the features, and areas summed over individual polygons count it twice; with a vertical edge there is no such
# column.
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
    """Rasterise a polygon on a grid of 10 x 10 units; return the pixels (10, 10)."""
    return rasterize([(polygon, 1)], out_shape=(10, 10), transform=from_origin(0, 10, 1, 1), dtype="uint8")


pairs = {
    "horizontal": (box(0, 5.5, 10, 10), box(0, 0, 10, 5.5)),
    "vertical": (box(0, 0, 5.5, 10), box(5.5, 0, 10, 10)),
}
burnt = {name: np.unique(pixels_of(a) + pixels_of(b), return_counts=True) for name, (a, b) in pairs.items()}
twice = {name: int(counts[values == 2].sum()) for name, (values, counts) in burnt.items()}
never = {name: int(counts[values == 0].sum()) for name, (values, counts) in burnt.items()}
print("pixels burnt twice:", twice, "never:", never)
assert twice == {"horizontal": 10, "vertical": 0} and never == {"horizontal": 0, "vertical": 0}
PY
