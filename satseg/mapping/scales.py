"""The true area of pixels where a projection does not keep areas, and of polygons over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio import Affine
from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError  # which `transform` does not translate
from rasterio.warp import transform as warp
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.ndimage import distance_transform_edt

LONLAT = "EPSG:4326"
NODES = 33  # along each axis of a map: scales change so smoothly that splines between them are exact to 1e-6
STEP_M, STEP_DEGREES = 2000.0, 0.02  # to each side of a node, over which a scale is measured
SEMI_MAJOR_M, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS84
ECCENTRICITY = (FLATTENING * (2 - FLATTENING)) ** 0.5
EQUAL = 1e-10
GAUSS = tuple(zip(*np.polynomial.legendre.leggauss(2), strict=True))


@dataclass(frozen=True)
class Scales:
    """Areas on the ground by place in the map; `Scales.of` makes one.

    Attributes:
        nodes: Square metres a pixel, at nodes in rows and columns over the map.
        along: Of each row, the area from the map's left edge to a column, in square metres per row.
    """

    nodes: np.ndarray
    along: RectBivariateSpline

    @classmethod
    def of(cls, source: Any) -> Scales | None:
        """Measure an open raster's pixels; None where its CRS is not one of the Earth's."""
        rows, cols = np.linspace(0, source.height, NODES), np.linspace(0, source.width, NODES)
        try:
            nodes = _measure(source.crs, source.transform, rows, cols)
        except CPLE_NotSupportedError:
            return None
        known = np.isfinite(nodes)
        if not known.any():
            return None
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        nodes = nodes[tuple(nearest)]  # beyond the edge of the world no pixel counts
        return cls(nodes, RectBivariateSpline(rows, cols, CubicSpline(cols, nodes, axis=1).antiderivative()(cols)))

    def near(self, pixel_area: float, tolerance: float) -> bool:
        """Tell whether all pixels have an area, but for a share of it."""
        return bool(np.abs(self.nodes / pixel_area - 1).max() <= tolerance)

    def pixel_areas(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Return the areas of a window's pixels in square metres; (height, 1) where those of each row are equal."""
        if np.ptp(self.nodes, axis=1).max() <= EQUAL * self.nodes.max():
            width = 1
        rows, cols = np.arange(row, row + height), np.arange(col, col + width + 1)
        along = [weight / 2 * self.along(rows + (place + 1) / 2, cols) for place, weight in GAUSS]
        return np.diff(np.sum(along, axis=0), axis=1)

    def areas(self, polygons: np.ndarray) -> np.ndarray:
        """Return the areas of polygons in pixel coordinates, in square metres: by Green's theorem, ring by ring."""
        if not len(polygons):
            return np.zeros(0)
        _, points, (rings, parts) = shapely.to_ragged_array(shapely.orient_polygons(polygons))
        first, last = points, np.roll(points, -1, axis=0)
        sums = np.zeros(len(points))
        for place, weight in GAUSS:
            col, row = (first + (last - first) * (place + 1) / 2).T
            sums += weight / 2 * self.along.ev(row, col)
        sums *= last[:, 1] - first[:, 1]
        sums[rings[1:] - 1] = 0  # no side goes from a ring's end to the next
        return np.asarray(np.add.reduceat(sums, rings[parts[:-1]]))


def _measure(crs: Any, transform: Affine, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return square metres a pixel at places; not finite beyond the edge of the world.

    They are those of a small rhombus on a sphere that has the ellipsoid's area everywhere.
    """
    x, y = transform @ np.meshgrid(cols, rows)
    unit = crs.units_factor[1]
    step = np.radians(STEP_DEGREES) / unit if crs.is_geographic else STEP_M / unit
    places = np.stack([[x + step, x - step, x, x], [y, y, y + step, y - step]]).reshape(2, 4, -1)
    if crs.is_geographic:  # half of a rhombus at a pole lies beyond it
        places[1] = np.clip(places[1], -np.pi / 2 / unit, np.pi / 2 / unit)
    east, west, north, south = _on_sphere(_lonlat(crs, places, step))
    rhombus = np.linalg.norm(np.cross(east - west, north - south), axis=-1) / 2
    areas: np.ndarray = (rhombus / (2 * step**2) * abs(transform.determinant)).reshape(x.shape)
    return areas


def _lonlat(crs: Any, places: np.ndarray, step: float) -> np.ndarray:
    """Return longitudes and latitudes in radians of places (2, 4, N) in a CRS; NaN beyond the edge of the world.

    What lies beyond is known by coming back elsewhere; a longitude may do so too.
    """
    try:
        found = np.array(warp(crs, LONLAT, *places.reshape(2, -1)))
        there = np.isfinite(found).all(0)
        if not crs.is_geographic:
            back = np.array(warp(LONLAT, crs, *found[:, there]))
            there[there] = np.linalg.norm(back - places.reshape(2, -1)[:, there], axis=0) < step
    except CPLE_NotSupportedError:
        raise
    except CPLE_BaseError:  # said of all places because of some
        if places.shape[2] == 1:
            return np.full(places.shape, np.nan)
        return np.concatenate([_lonlat(crs, half, step) for half in np.array_split(places, 2, axis=2)], axis=2)
    return np.radians(np.where(there, found, np.nan)).reshape(places.shape)


def _on_sphere(lonlat: np.ndarray) -> np.ndarray:
    """Return places (2, …) as vectors (…, 3) in metres on the authalic sphere (Snyder 1987, equations 3-11 to 3-13)."""
    lon, lat = lonlat
    pole = _authalic(np.array(1.0))
    up = _authalic(np.sin(lat)) / pole
    flat = np.sqrt(np.maximum(1 - up**2, 0))
    radius = SEMI_MAJOR_M * np.sqrt(pole / 2)
    return np.asarray(radius * np.stack([flat * np.cos(lon), flat * np.sin(lon), up], axis=-1))


def _authalic(sine: np.ndarray) -> np.ndarray:
    inner = ECCENTRICITY * sine
    return np.asarray((1 - ECCENTRICITY**2) * (sine / (1 - inner**2) + np.arctanh(inner) / ECCENTRICITY))
