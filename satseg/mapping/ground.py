"""Where the pixels of a map lie on the ground, and how large they are there."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio import Affine
from rasterio.errors import CRSError
from rasterio.warp import transform as warp

EQUAL_AREA = "EPSG:6933"
# Projections of the world whose grid grows with latitude: areas in Web Mercator are threefold at 55 degrees.
INFLATED = re.compile(r'PROJECTION\["(Mercator|Popular_Visualisation|Equirectangular|Miller)')
SAMPLES = 65_537  # of a meridian: steps of 0.003 degrees at most, far finer than the scale changes


@dataclass(frozen=True)
class Ground:
    """The ground below a map.

    Attributes:
        transform: From pixel coordinates (column, row) to those of the CRS; identity where the map has none.
        crs: As WKT; None where there is none, or the map has no place in it.
        metric: Whether areas are in square metres; else they are in pixels.
        pixel_area: Of every pixel, in square metres or pixels; None where it depends on the place.
        meridian: Of a CRS whose grid does not keep areas: ordinates of the CRS, rising, and what they are in metres in
            a cylindrical equal-area projection.
        abscissa_m: Metres in that projection for one unit of the CRS's abscissa.
    """

    transform: Affine
    crs: str | None
    metric: bool
    pixel_area: float | None
    meridian: tuple[np.ndarray, np.ndarray] | None = None
    abscissa_m: float = 1.0

    @classmethod
    def of(cls, source: Any) -> Ground:
        """Return the ground below an open raster."""
        crs, transform = source.crs, source.transform
        if not crs or transform.is_identity:  # a CRS without a place in it says nothing
            return cls(transform, None, metric=False, pixel_area=1.0)
        wkt = crs.to_wkt()
        if crs.is_geographic or INFLATED.search(wkt):
            meridian, abscissa_m = _equal_area(source)
            return cls(transform, wkt, True, None, meridian, abscissa_m)
        try:
            unit_m = float(crs.linear_units_factor[1])
        except CRSError:  # a local grid: lengths of no known unit
            return cls(transform, wkt, metric=False, pixel_area=1.0)
        return cls(transform, wkt, metric=True, pixel_area=abs(transform.determinant) * unit_m**2)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return pixel coordinates (N, 2), column and row, in the CRS."""
        return _placed(self.transform, points)

    def areas(self, polygons: np.ndarray) -> np.ndarray:
        """Return true areas of polygons in pixel coordinates: square metres, or pixels where there are no metres."""
        if self.pixel_area is not None:
            areas: np.ndarray = shapely.area(polygons) * self.pixel_area
            return areas
        return np.asarray(shapely.area(shapely.transform(polygons, self._flat)))

    def pixel_areas(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Return the areas of a window's pixels; shape (height, width), or (height, 1) where a row's are all equal."""
        if self.pixel_area is not None:
            return np.full((height, 1), self.pixel_area)
        width = 1 if self.transform.d == 0 else width
        cols, rows = np.meshgrid(np.arange(col, col + width + 1.0), np.arange(row, row + height + 1.0))
        x, y = self._flat(np.stack([cols.ravel(), rows.ravel()], axis=1)).T.reshape(2, *cols.shape)
        across = (x[1:, 1:] - x[:-1, :-1]) * (y[1:, :-1] - y[:-1, 1:])
        along = (y[1:, 1:] - y[:-1, :-1]) * (x[1:, :-1] - x[:-1, 1:])
        return np.asarray(np.abs(across - along) / 2)  # a quadrilateral's area from its diagonals

    def _flat(self, points: np.ndarray) -> np.ndarray:
        x, y = self.place(points).T
        return np.stack([x * self.abscissa_m, y if self.meridian is None else np.interp(y, *self.meridian)], axis=1)


def _placed(transform: Affine, points: np.ndarray) -> np.ndarray:
    col, row = points[:, 0], points[:, 1]
    x = transform.a * col + transform.b * row + transform.c
    return np.stack([x, transform.d * col + transform.e * row + transform.f], axis=1)


def _equal_area(source: Any) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Tabulate the equal-area ordinate along a meridian.

    The projection is cylindrical as the CRS's own grid is, so abscissa and ordinate do not depend on each other, and a
    map across the date line needs no cut.
    """
    corners = np.array(list(itertools.product((0, source.width), (0, source.height))), float)
    ordinates = _placed(source.transform, corners)[:, 1]
    y = np.linspace(ordinates.min(), ordinates.max(), SAMPLES)
    pole = math.pi / 2 / source.crs.units_factor[1] if source.crs.is_geographic else math.inf
    x_m, y_m = warp(source.crs, EQUAL_AREA, [1.0, 2.0, *np.ones(SAMPLES)], [0.0, 0.0, *np.clip(y, -pole, pole)])
    return (y, np.asarray(y_m[2:])), x_m[1] - x_m[0]
