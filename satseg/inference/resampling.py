"""Giving a raster another pixel size as it is read, without mixing missing pixels into others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from satseg.data.missing import Marks, can_hold
from satseg.data.raster import RasterInfo
from satseg.data.uniform_vrt import are_alike, uniform_vrt
from satseg.spec import marks_alone


@contextmanager
def resample(
    source: Any,
    grid: RasterInfo,
    bands: Sequence[int],
    nodata: float | None = None,
    otherwise: float | None = None,
) -> Iterator[WarpedVRT]:
    """Open an open raster on another grid.

    Where its bands differ in dtype or nodata, or have masks of their own, a pixel that one band lacks is missing.

    Args:
        source: As it is stored.
        grid: Has the path, transform, width and height.
        bands: One-based numbers of those that will be read; what the others declare is of no account.
        nodata: Stored value of missing pixels; the file's own by default.
        otherwise: The value where these bands declare none.
    """
    marks = Marks.of(source)
    values = marks.values(bands, nodata, otherwise)
    of_all = [value if value is not None else otherwise for value in marks.values(source.indexes, nodata)]
    if not set(marks.alpha) & set(bands) and are_alike(source, (*values, *of_all)):
        with _warped(source, grid, values[0]) as warped:
            yield warped
        return
    uniform = uniform_vrt(source, grid.path, dict(zip(bands, values, strict=True)))
    with rasterio.open(uniform) as alike, _warped(alike, grid, math.nan) as warped:
        yield warped


def _warped(source: Any, grid: RasterInfo, nodata: float | None) -> WarpedVRT:
    assert grid.transform is not None
    coarser = grid.width * grid.height < source.width * source.height
    return WarpedVRT(
        source,
        crs=source.crs,
        transform=Affine(*grid.transform),
        width=grid.width,
        height=grid.height,
        resampling=Resampling.average if coarser else Resampling.bilinear,
        tolerance=1e-6,  # of a pixel: the same for every window
        **_missing(source, nodata),
    )


def _missing(source: Any, nodata: float | None) -> dict[str, Any]:
    """Return how GDAL is told of missing pixels, and answers: in an alpha band where a value may be a mean, too."""
    dtype, marks = source.dtypes[0], Marks.of(source)
    nodata = nodata if nodata is not None and (math.isnan(nodata) or can_hold(dtype, nodata)) else None
    if marks.alpha:  # which GDAL leaves as it is at nodata; and it must look at each band alone then
        return {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "PARTIAL"}
    if nodata is not None and marks_alone(nodata, dtype):
        # Each band answers for itself, by the value, which GDAL gives to no mean.
        return {"src_nodata": nodata, "nodata": nodata, "add_alpha": marks.shared_mask, "UNIFIED_SRC_NODATA": "NO"}
    return {"src_nodata": nodata, "nodata": None, "add_alpha": marks.shared_mask or nodata is not None}
