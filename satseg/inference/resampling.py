"""Giving a raster another pixel size as it is read, without mixing missing pixels into others."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT

from satseg.data.raster import RasterInfo
from satseg.spec import marks_alone


def resample(source: Any, grid: RasterInfo, nodata: float | None) -> WarpedVRT:
    """Return an open raster on another grid.

    Args:
        source: As it is stored.
        grid: Has the transform, width and height.
        nodata: Stored value of missing pixels; the file's own by default.
    """
    assert grid.transform is not None
    coarser = grid.width < source.width
    return WarpedVRT(
        source,
        crs=source.crs,
        transform=Affine(*grid.transform),
        width=grid.width,
        height=grid.height,
        resampling=Resampling.average if coarser else Resampling.bilinear,
        tolerance=1e-6,  # of a pixel: the same for every window
        **_missing(source, source.nodata if nodata is None else nodata),
    )


def _missing(source: Any, nodata: float | None) -> dict[str, Any]:
    """Return how GDAL is told of missing pixels, and answers: in an alpha band where a value may be a mean, too."""
    nodata = nodata if nodata is not None and _can_hold(source.dtypes[0], nodata) else None
    if alpha_bands(source):  # which GDAL leaves as it is at nodata; and it must look at each band alone then
        return {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "PARTIAL"}
    masked = MaskFlags.per_dataset in source.mask_flag_enums[0]
    if nodata is not None and marks_alone(nodata, source.dtypes[0]):
        # Each band answers for itself, by the value, which GDAL gives to no mean.
        return {"src_nodata": nodata, "nodata": nodata, "add_alpha": masked, "UNIFIED_SRC_NODATA": "NO"}
    return {"src_nodata": nodata, "nodata": None, "add_alpha": masked or nodata is not None}


def alpha_bands(source: Any) -> list[int]:
    """Return the one-based numbers of bands in which missing pixels are 0."""
    return [number for number, kind in zip(source.indexes, source.colorinterp) if kind == ColorInterp.alpha]


def _can_hold(dtype: str, value: float) -> bool:
    """Tell whether a stored pixel can have a value."""
    return np.issubdtype(dtype, np.floating) or (in_dtype_range(value, dtype) and value % 1 == 0)
