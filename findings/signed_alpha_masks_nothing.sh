#!/usr/bin/env bash
# In a GeoTIFF that rio-tiler renders from an image of a signed dtype, every pixel is valid although it has a mask.
# Expected: the rendered file masks exactly the pixels that are masked in the image, whatever the dtype.
# Observed with rio-tiler 9.4.12 and rasterio 1.4.4 (bundled GDAL 3.10.3): the mask is written as an alpha band of the
# image's dtype, with the minimum of that dtype where a pixel is missing. This is 0 for uint8 and uint16, but negative
# for int16 and float32, and GDAL treats any alpha other than 0 as visible. Missing pixels of an elevation, temperature
# or probability map become data. ImageData.mask has the same values: converted to bool, it is True everywhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rio-tiler==9.4.12 rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
import rio_tiler
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rio_tiler.io import Reader

print("rio-tiler", rio_tiler.__version__, "rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
shares = {}
for dtype, nodata in (("uint8", 0), ("uint16", 0), ("int16", -9999), ("float32", -9999)):
    pixels = np.full((64, 64), nodata, dtype)
    pixels[:, 32:] = 5
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": dtype, "nodata": nodata}
    with rasterio.open("image.tif", "w", crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
        file.write(pixels, 1)
    with Reader("image.tif") as reader:
        image = reader.read()
    assert np.ma.getmaskarray(image.array).mean() == 0.5
    with MemoryFile(image.render(img_format="GTiff")) as memory, memory.open() as file:
        rendered = file.dataset_mask() > 0
        values = np.unique(file.read(1)[rendered]).tolist()
    shares[dtype] = float(image.mask.astype(bool).mean()), float(rendered.mean()), values
    print(dtype, "valid in memory %s, in the file %s, of value %s" % shares[dtype])
assert shares == {
    "uint8": (0.5, 0.5, [5]),
    "uint16": (0.5, 0.5, [5]),
    "int16": (1.0, 1.0, [-9999, 5]),
    "float32": (1.0, 1.0, [-9999.0, 5.0]),
}
PY
