#!/usr/bin/env bash
# A raster opened by rioxarray with masked=True and reprojected by odc-geo has the nodata value as data in its margin.
# Expected: missing pixels are NaN after opening, so they are NaN after reprojecting, and masked in a file written from
# the image.
# Observed with odc-geo 0.5.3, rioxarray 0.19.0 and rasterio 1.4.4 (bundled GDAL 3.10.3): rioxarray replaces nodata by
# NaN and keeps -9999 for writing; odc-geo takes it as the nodata value of the floats in memory. The area outside the
# raster becomes -9999, while missing pixels inside stay NaN, and the mean is wrong by thousands; rioxarray's own
# reprojection gives NaN. In the COG that odc-geo writes of the image, missing pixels are NaN but the nodata value is
# -9999, so none of them is masked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet \
    odc-geo==0.5.3 rioxarray==0.19.0 rasterio==1.4.4 dask==2026.8.0 numpy==2.4.6
cd "$folder"
environment/bin/python -W ignore - <<'PY'
import numpy as np
import odc.geo
import odc.geo.xr
import rasterio
import rioxarray
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin

print("odc-geo", odc.geo.__version__, "rioxarray", rioxarray.__version__, "rasterio", rasterio.__version__)
pixels = np.full((20, 20), 5, np.int16)
pixels[:5] = -9999
profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 1, "dtype": "int16", "nodata": -9999}
with rasterio.open("image.tif", "w", crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
    file.write(pixels, 1)

image = rioxarray.open_rasterio("image.tif", masked=True)
assert np.isnan(image.values).mean() == 0.25
wider = GeoBox.from_bbox((499900, 4999700, 500300, 5000100), "EPSG:32633", resolution=10)
by_odc = image.odc.reproject(wider)
by_rioxarray = image.rio.reproject("EPSG:32633", transform=wider.transform, shape=wider.shape)
means = {"odc-geo": float(by_odc.mean()), "rioxarray": float(by_rioxarray.mean())}
values, counts = np.unique(by_odc, return_counts=True)
print("mean", means, "pixels by odc-geo", dict(zip(values.tolist(), counts.tolist(), strict=True)))

valid = {}
image.odc.write_cog("odc.tif")
image.rio.to_raster("rioxarray.tif")
for name in ("image", "odc", "rioxarray"):
    with rasterio.open(f"{name}.tif") as file:
        valid[name] = float((file.read_masks(1) > 0).mean())
print("valid share of the files", valid)
assert means["rioxarray"] == 5 and means["odc-geo"] < -7000 and counts.tolist() == [1200, 300, 100]
assert valid == {"image": 0.75, "odc": 1.0, "rioxarray": 0.75}
PY
