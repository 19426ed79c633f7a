"""Where the pixels of a map lie on the ground, and how large they are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio import Affine
from rasterio.errors import CRSError

from satseg.mapping.scales import Scales

NEAR_TRUE = 0.0025  # of the area; a UTM zone's own grid is off by 0.002 at most


@dataclass(frozen=True)
class Ground:
    """The ground below a map.

    Attributes:
        transform: From pixel coordinates (column, row) to those of the CRS; identity where the map has none.
        crs: As WKT; None where there is none, or the map has no place in it.
        metric: Whether areas are in square metres; else they are in pixels.
        pixel_area: Of every pixel, in square metres or pixels; None where it depends on the place.
        scales: How it depends on the place, where it does.
    """

    transform: Affine
    crs: str | None
    metric: bool
    pixel_area: float | None
    scales: Scales | None = None

    @classmethod
    def of(cls, source: Any) -> Ground:
        """Return the ground below an open raster."""
        crs, transform = source.crs, source.transform
        if not crs or transform.is_identity:  # a CRS without a place in it says nothing
            return cls(transform, None, metric=False, pixel_area=1.0)
        wkt, pixel_area = crs.to_wkt(), None
        if not crs.is_geographic:
            try:
                pixel_area = abs(transform.determinant) * float(crs.linear_units_factor[1]) ** 2
            except CRSError:  # a local grid: lengths of no known unit
                return cls(transform, wkt, metric=False, pixel_area=1.0)
        scales = Scales.of(source)
        if pixel_area is not None and (scales is None or scales.near(pixel_area, NEAR_TRUE)):
            return cls(transform, wkt, True, pixel_area)
        return cls(transform, wkt, scales is not None, None if scales else 1.0, scales)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return pixel coordinates (N, 2), column and row, in the CRS."""
        x, y = self.transform @ points.T
        return np.stack([x, y], axis=1)

    def areas(self, polygons: np.ndarray) -> np.ndarray:
        """Return true areas of polygons in pixel coordinates: square metres, or pixels where there are no metres."""
        if self.scales is not None:
            return self.scales.areas(polygons)
        areas: np.ndarray = shapely.area(polygons) * self.pixel_area
        return areas

    def pixel_areas(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Return the areas of a window's pixels; (height, width), or (height, 1) where those of each row are equal."""
        if self.scales is not None:
            return self.scales.pixel_areas(row, col, height, width)
        return np.full((height, 1), self.pixel_area)
