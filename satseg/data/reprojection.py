"""Reprojection of coordinates between reference systems, with one error for every failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from rasterio import CRS, warp
from rasterio.errors import CRSError

from satseg.data.rasters.opening import RASTER_ERRORS
from satseg.errors import DataError

Bounds = tuple[float, float, float, float]  # west, south, east, north
SHOWN = 120  # characters of a PROJ message, which may quote a whole CRS


def transform_points(
    source: CRS | str, target: CRS | str, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Reproject points; those outside the target projection are not finite.

    Args:
        source: The CRS of the points; a text is WKT.
        target: The CRS of the result.
        xs: Eastings or longitudes (n,).
        ys: Northings or latitudes (n,).

    Raises:
        DataError: If there is no transformation between the two, or one is no valid CRS.
    """
    with _explained():
        return np.array(warp.transform(_parsed(source), _parsed(target), xs, ys))


def transform_bounds(source: CRS | str, target: CRS | str, bounds: Bounds) -> Bounds:
    """Return the bounds of an area in another CRS.

    Raises:
        DataError: As `transform_points`, and if part of it lies outside the target projection.
    """
    with _explained():
        west, south, east, north = warp.transform_bounds(_parsed(source), _parsed(target), *bounds)
        return west, south, east, north


def _parsed(crs: CRS | str) -> CRS:
    return CRS.from_wkt(crs) if isinstance(crs, str) else crs


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (*RASTER_ERRORS, CRSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"coordinates cannot be transformed from one CRS to the other ({reason[:SHOWN]})") from error
