"""Pixel size of rasters on the ground, along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyproj
from pyproj.exceptions import ProjError
from rasterio import CRS, Affine

from satseg.data.rasters.opening import RASTER_ERRORS

GEOD = pyproj.Geod(ellps="WGS84")  # other ellipsoids differ by 1e-4
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
    except (*RASTER_ERRORS, ValueError):  # a local grid without a unit
        return None
    nominal = math.hypot(affine.a, affine.d) * unit, math.hypot(affine.b, affine.e) * unit
    if not (min(nominal) > 0 and math.isfinite(sum(nominal))):
        return None
    true = _on_the_ground(system, affine, width, height)
    if true is None:  # not one of the Earth's, or no place on it
        return None if system.is_geographic else nominal
    return nominal if not system.is_geographic and _are_near(true, nominal) else true


def size_text(size: Size) -> str:
    """Return a pixel size as text: 10, or 5.57 x 11.1 if the edges differ."""
    along, down = size
    return f"{along:.4g}" if math.isclose(along, down, rel_tol=0.001) else f"{along:.3g} x {down:.3g}"


def _on_the_ground(system: CRS, affine: Affine, width: int, height: int) -> Size | None:
    centre = np.array([width / 2, height / 2])
    places = affine @ np.add(centre, [[-0.5, 0], [0, -0.5], [0.5, 0], [0, 0.5]]).T
    try:
        lon, lat = np.array(_to_lonlat(system.to_wkt()).transform(*places))
    except ProjError:
        return None
    if not np.isfinite([lon, lat]).all():
        return None
    along, down = GEOD.inv(lon[:2], lat[:2], lon[2:], lat[2:])[2].tolist()
    return (along, down) if math.isfinite(along + down) else None


@lru_cache(maxsize=64)  # the images of a dataset share few
def _to_lonlat(wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(wkt), "EPSG:4326", always_xy=True)


def _are_near(one: Size, other: Size) -> bool:
    return all(math.isclose(a, b, rel_tol=NEAR_TRUE) for a, b in zip(one, other, strict=True))
