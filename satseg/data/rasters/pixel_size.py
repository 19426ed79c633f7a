"""Pixel size of rasters on the ground, along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rasterio import CRS, Affine
from rasterio._err import CPLE_BaseError  # which rasterio does not translate for a CRS that is not one of the Earth's
from rasterio.errors import CRSError, RasterioError

from satseg.data.projecting import transform_points
from satseg.errors import DataError

SEMI_MAJOR_M, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS84; other ellipsoids differ by 1e-4
NEAR_TRUE = 0.0025  # of an edge: the projection's own metres are taken; those of UTM are off by 0.001 at most

Size = tuple[float, float]


def pixel_size(crs: CRS | str | None, transform: Sequence[float] | None, width: int, height: int) -> Size | None:
    """Return the pixel size in metres along rows and along columns, at a raster's centre.

    A projection's metres may differ from those on the ground: in web Mercator at 60° north they are half as long.

    Args:
        crs: Of the raster; a text is WKT.
        transform: The six numbers of its affine geotransform.
        width: In pixels.
        height: In pixels.

    Returns:
        None if the raster has no georeference, or its coordinates have no known unit.
    """
    if not crs or transform is None:
        return None
    try:
        system = CRS.from_wkt(crs) if isinstance(crs, str) else crs
        affine = Affine(*transform[:6])
        unit = float(system.units_factor[1])  # radians or metres
    except (CPLE_BaseError, CRSError, RasterioError, ValueError):  # a local grid without a unit
        return None
    nominal = math.hypot(affine.a, affine.d) * unit, math.hypot(affine.b, affine.e) * unit
    if not (min(nominal) > 0 and math.isfinite(sum(nominal))):
        return None
    try:
        true = _on_the_ground(system, affine, width, height, unit)
    except DataError:  # not one of the Earth's, or no place on it
        return None if system.is_geographic else nominal
    return nominal if not system.is_geographic and _are_near(true, nominal) else true


def size_text(size: Size) -> str:
    """Return a pixel size as text: 10, or 5.57 x 11.1 if the edges differ."""
    along, down = size
    return f"{along:.4g}" if math.isclose(along, down, rel_tol=0.001) else f"{along:.3g} x {down:.3g}"


def _on_the_ground(system: CRS, affine: Affine, width: int, height: int, unit: float) -> Size:
    centre = np.array([width / 2, height / 2])
    xs, ys = affine @ np.add(centre, [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]).T
    if system.is_geographic:
        lon, lat = np.array([xs, ys]) * unit
    else:
        lon, lat = np.radians(transform_points(system, CRS.from_epsg(4326), xs, ys))
    middle = lat.mean()
    if not (np.isfinite(lon).all() and np.isfinite(lat).all() and abs(middle) < math.pi / 2):
        raise DataError("the centre lies beyond the edge of the world")
    along, down = (_length(lon[i + 1] - lon[i], lat[i + 1] - lat[i], middle) for i in (0, 2))
    return along, down


def _length(east: float, north: float, latitude: float) -> float:
    """Return the length in metres of a small step in radians, from the ellipsoid's radii of curvature."""
    squared = FLATTENING * (2 - FLATTENING)
    flat = 1 - squared * math.sin(latitude) ** 2
    across = SEMI_MAJOR_M / math.sqrt(flat)
    east = (east + math.pi) % (2 * math.pi) - math.pi  # the step may cross the date line
    return math.hypot(across * math.cos(latitude) * east, across * (1 - squared) / flat * north)


def _are_near(one: Size, other: Size) -> bool:
    return all(math.isclose(a, b, rel_tol=NEAR_TRUE) for a, b in zip(one, other, strict=True))
