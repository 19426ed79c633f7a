"""Resampling a raster to another pixel size on reading, without mixing missing pixels into valid ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.uniform_vrt import uniform_vrt
from satseg.data.rasters.validity import Validity, can_hold
from satseg.spec import is_nodata_per_band


@contextmanager
def resample(
    source: Any,
    grid: RasterInfo,
    bands: Sequence[int],
    nodata: float | None = None,
    default_nodata: float | None = None,
) -> Iterator[WarpedVRT]:
    """Open an open raster on another grid.

    Pixels that are missing as stored stay missing: if a mask, an alpha band or several nodata values mark them, GDAL is
    given the bands with one combined mask.

    Args:
        source: The raster as stored.
        grid: Header with path, transform, width and height.
        bands: One-based numbers of the bands to read; nodata of the others is ignored.
        nodata: Stored value of missing pixels; the file's own by default.
        default_nodata: The value if these bands declare none.
    """
    validity = Validity.of(source)
    values = validity.nodata_values(bands, nodata, default_nodata)
    if not validity.is_masked and _is_uniform(
        validity, values, validity.nodata_values(source.indexes, nodata, default_nodata)
    ):
        with _warped(source, grid, **_missing(validity.dtypes[0], values[0])) as warped:
            yield warped
        return
    uniform = uniform_vrt(source, grid.path, dict(zip(bands, values, strict=True)))
    with rasterio.open(uniform) as masked, _warped(masked, grid, add_alpha=Validity.of(masked).is_masked) as warped:
        yield warped


def _is_uniform(validity: Validity, *values: Sequence[float | None]) -> bool:
    """Return whether all bands have the same dtype and nodata value."""
    return len(set(validity.dtypes)) == 1 and len({repr(value) for some in values for value in some}) == 1


def _warped(source: Any, grid: RasterInfo, **missing: Any) -> WarpedVRT:
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
        **missing,
    )


def _missing(dtype: str, nodata: float | None) -> dict[str, Any]:
    """Return GDAL's options for missing pixels: an alpha band marks them if nodata could also be a resampled value."""
    if nodata is None or not (math.isnan(nodata) or can_hold(dtype, nodata)):
        return {"nodata": None}
    if is_nodata_per_band(nodata, dtype):
        # Marked per band by the value itself, which GDAL never yields for a mean.
        return {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "NO"}
    return {"src_nodata": nodata, "nodata": None, "add_alpha": True}
