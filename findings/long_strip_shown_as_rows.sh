#!/usr/bin/env bash
# A TIFF with one compressed strip is reported as blocks of one row each, from 2,001 rows of 8 bits on; not with 16
# bits.
# Expected: block_shapes is the layout in the file, so that the bytes of a block limit the size of its decompressed
# data.
# Observed with rasterio 1.4.4 (bundled GDAL 3.10.3): 2,000 rows: (2000, 16); 2,001 rows of uint8: (1, 16), though the
# file still has one strip with all rows, and the length of only one block is given; of uint16: (2001, 16).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet rasterio==1.4.4 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import warnings
import zlib

import numpy as np
import rasterio

warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
seen = {}
for dtype, rows in (("uint8", 2000), ("uint8", 2001), ("uint16", 2001)):
    profile = {"driver": "GTiff", "height": rows, "width": 16, "count": 1, "dtype": dtype, "compress": "deflate"}
    with rasterio.open("image.tif", "w", blockysize=rows, **profile) as file:
        file.write(np.ones((1, rows, 16), dtype))
    with rasterio.open("image.tif") as file:
        first, second = (file.get_tag_item(f"BLOCK_SIZE_0_{row}", "TIFF", bidx=1) for row in (0, 1))
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        content = open("image.tif", "rb").read()[offset : offset + int(first)]
        stored = len(zlib.decompress(content)) // (16 * np.dtype(dtype).itemsize)
        seen[dtype, rows] = file.block_shapes[0], stored, second
        print(dtype, rows, "rows: block", file.block_shapes[0], "stored rows of a strip", stored, "second block", second)
assert seen["uint8", 2000] == ((2000, 16), 2000, None)
assert seen["uint8", 2001] == ((1, 16), 2001, None)
assert seen["uint16", 2001] == ((2001, 16), 2001, None)
PY
