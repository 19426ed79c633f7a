#!/usr/bin/env bash
# In a GeoPackage raster written with a nodata value, missing pixels are read as 0 or 32767 and count as valid.
# Expected: it contains what a GeoTIFF with the same profile contains, or the nodata value is refused.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): the written file has no nodata value. Tiles of nothing but nodata
# are omitted and read as 0; in the other tiles -9999 of int16 becomes 32767, while uint16 and float32 keep the value.
# If the GeoTIFF is copied to GeoPackage instead, missing pixels stay masked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)


def content(path: str) -> tuple[float, list[float]]:
    """Return the valid share of a raster and the numbers of its valid pixels."""
    with rasterio.open(path) as file:
        pixels = file.read(1, masked=True)
    return float(pixels.count() / pixels.size), np.unique(pixels.compressed()).astype(float).tolist()


found = {}
for dtype, nodata in (("int16", -9999), ("uint16", 65535), ("float32", -9999)):
    pixels = np.full((512, 512), 100, dtype)
    pixels[:384] = nodata  # the first row of tiles and half of the second
    profile = {"height": 512, "width": 512, "count": 1, "dtype": dtype, "nodata": nodata, "crs": "EPSG:3857"}
    for driver, suffix in (("GTiff", "tif"), ("GPKG", "gpkg")):
        path = f"{dtype}.{suffix}"
        with rasterio.open(path, "w", driver=driver, transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
            file.write(pixels, 1)
    rasterio.shutil.copy(f"{dtype}.tif", f"{dtype}_copied.gpkg", driver="GPKG")
    found[dtype] = {name: content(f"{dtype}{name}") for name in (".tif", "_copied.gpkg", ".gpkg")}
    print(dtype, found[dtype])
written = {dtype: contents.pop(".gpkg") for dtype, contents in found.items()}
assert all(content == (0.25, [100]) for contents in found.values() for content in contents.values())
assert written == {"int16": (1, [0, 100, 32767]), "uint16": (1, [0, 100, 65535]), "float32": (1, [-9999, 0, 100])}
PY
