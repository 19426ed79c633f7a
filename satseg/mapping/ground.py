"""Georeferencing of a map, and the areas of its pixels and polygons on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import ProjError
from rasterio import Affine
from rasterio.errors import CRSError
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.ndimage import distance_transform_edt

NEAR_TRUE = 0.0025  # of the area; a UTM zone's own grid is off by 0.002 at most
LONLAT = "EPSG:4326"
GEOD = pyproj.Geod(ellps="WGS84")
NODES = 33  # along each axis of a map: areas change so smoothly that splines between them are exact to 1e-6
STEP_M, STEP_DEGREES = 2000.0, 0.02  # to each side of a node, over which an area is measured
EQUAL = 1e-10
GAUSS = tuple(zip(*np.polynomial.legendre.leggauss(2), strict=True))


@dataclass(frozen=True)
class Ground:
    """Georeferencing of a map.

    Attributes:
        transform: From pixel coordinates (column, row) to those of the CRS; identity where the map has none.
        crs: As WKT; None if there is none, or the map has no geotransform.
        metric: Whether areas are in square metres, not in pixels.
        pixel_area: Of every pixel, in square metres or pixels; None if it varies.
        varying: The areas of pixels, if they vary.
    """

    transform: Affine
    crs: str | None
    metric: bool
    pixel_area: float | None
    varying: PixelAreas | None = None

    @classmethod
    def of(cls, source: Any) -> Ground:
        """Return the georeferencing of an open raster."""
        crs, transform = source.crs, source.transform
        if not crs or transform.is_identity:  # a CRS without a geotransform gives no coordinates
            return cls(transform, None, metric=False, pixel_area=1.0)
        wkt, pixel_area = crs.to_wkt(), None
        if not crs.is_geographic:
            try:
                pixel_area = abs(transform.determinant) * float(crs.linear_units_factor[1]) ** 2
            except CRSError:  # a local grid without a known unit
                return cls(transform, wkt, metric=False, pixel_area=1.0)
        varying = PixelAreas.of(source)
        if pixel_area is not None and (varying is None or varying.all_near(pixel_area, NEAR_TRUE)):
            return cls(transform, wkt, True, pixel_area)
        return cls(transform, wkt, varying is not None, None if varying else 1.0, varying)

    def to_crs(self, points: np.ndarray) -> np.ndarray:
        """Return pixel coordinates (N, 2), column and row, as coordinates of the CRS."""
        x, y = self.transform @ points.T
        return np.stack([x, y], axis=1)

    def areas(self, polygons: np.ndarray) -> np.ndarray:
        """Return true areas of polygons in pixel coordinates: square metres, or pixels if there are no metres."""
        if self.varying is not None:
            return self.varying.areas(polygons)
        areas: np.ndarray = shapely.area(polygons) * self.pixel_area
        return areas

    def pixel_areas(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Return the areas of a window's pixels; (height, width), or (height, 1) if those of each row are equal."""
        if self.varying is not None:
            return self.varying.pixel_areas(row, col, height, width)
        return np.full((height, 1), self.pixel_area)


@dataclass(frozen=True)
class PixelAreas:
    """Pixel areas that vary over a map, interpolated between nodes; made by `PixelAreas.of`.

    Attributes:
        nodes: Square metres per pixel, at nodes in rows and columns over the map.
        along: The area from the map's left edge to a column, by row and column, in square metres per row.
    """

    nodes: np.ndarray
    along: RectBivariateSpline

    @classmethod
    def of(cls, source: Any) -> PixelAreas | None:
        """Measure an open raster's pixels; return None if its CRS is not one of the Earth's."""
        rows, cols = np.linspace(0, source.height, NODES), np.linspace(0, source.width, NODES)
        try:
            nodes = _measure(pyproj.CRS.from_wkt(source.crs.to_wkt()), source.transform, rows, cols)
        except ProjError:
            return None
        known = np.isfinite(nodes)
        if not known.any():
            return None
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        nodes = nodes[tuple(nearest)]  # beyond the edge of the world: no pixel there counts
        return cls(nodes, RectBivariateSpline(rows, cols, CubicSpline(cols, nodes, axis=1).antiderivative()(cols)))

    def all_near(self, pixel_area: float, tolerance: float) -> bool:
        """Return whether all pixels have an area, within a relative tolerance."""
        return bool(np.abs(self.nodes / pixel_area - 1).max() <= tolerance)

    def pixel_areas(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Return the areas of a window's pixels in square metres; (height, 1) if those of each row are equal."""
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


def _measure(crs: pyproj.CRS, transform: Affine, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return square metres per pixel at positions; NaN beyond the edge of the world.

    They are measured on a small rhombus around each position, by geodesics to its corners. (`pyproj.Proj.get_factors`
    works for projected CRSs only, and takes web Mercator's sphere for the ellipsoid, which is off by up to 0.7 %.)

    Raises:
        ProjError: If the CRS cannot be transformed to longitude and latitude.
    """
    x, y = transform @ np.meshgrid(cols, rows)
    unit = crs.axis_info[0].unit_conversion_factor  # radians or metres
    step = np.radians(STEP_DEGREES) / unit if crs.is_geographic else STEP_M / unit
    places = np.stack([[x, x + step, x, x - step, x], [y, y, y + step, y, y - step]])
    if crs.is_geographic:  # half of a rhombus at a pole lies beyond it
        places[1] = np.clip(places[1], -np.pi / 2 / unit, np.pi / 2 / unit)
    lon, lat = _lonlat(crs, places, step)
    centre = np.broadcast_to(lon[0], lon[1:].shape), np.broadcast_to(lat[0], lat[1:].shape)
    azimuth, _, length = GEOD.inv(*centre, lon[1:], lat[1:])
    turn = np.radians(np.roll(azimuth, -1, axis=0) - azimuth)
    rhombus = np.abs((length * np.roll(length, -1, axis=0) * np.sin(turn)).sum(0)) / 2
    areas: np.ndarray = rhombus / (2 * step**2) * abs(transform.determinant)
    return areas


def _lonlat(crs: pyproj.CRS, places: np.ndarray, step: float) -> np.ndarray:
    """Return longitudes and latitudes in degrees of positions (2, …) in a CRS; NaN beyond the edge of the world.

    Positions beyond the edge do not return to themselves when transformed back; longitudes may differ by a turn.
    """
    found = np.array(pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True).transform(*places))
    there = np.isfinite(found).all(0)
    if not crs.is_geographic:
        back = np.array(pyproj.Transformer.from_crs(LONLAT, crs, always_xy=True).transform(*found))
        with np.errstate(invalid="ignore"):
            there &= np.linalg.norm(back - places, axis=0) < step
    return np.where(there, found, np.nan)
