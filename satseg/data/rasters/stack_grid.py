"""Common grid of single-band files: compatibility checks, and placement on the finest grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio import CRS, Affine

from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.opening import redacted
from satseg.errors import DataError

EXACT = 0.01  # tolerance in pixels


@dataclass(frozen=True)
class Placement:
    """Placement of a file on the grid: its origin and pixel size, in pixels of the grid."""

    x: float
    y: float
    width: float
    height: float

    def overhang(self, info: RasterInfo, grid: RasterInfo) -> tuple[float, float, float, float]:
        """Return how far the file extends beyond the grid, in its pixels: left, top, right, bottom."""
        right = self.x + self.width * info.width - grid.width
        return -self.x, -self.y, right, self.y + self.height * info.height - grid.height


def finest_grid(infos: Sequence[RasterInfo]) -> RasterInfo:
    """Return the header of the file with the smallest pixels, the first if tied.

    Raises:
        DataError: If a file has several bands, is stored rotated, or differs from the finest in CRS.
    """
    for info in infos:
        if info.count != 1:
            raise DataError(f"{redacted(info.path)} has {info.count} bands, but a file for one band was expected.")
        if info.turned:
            raise DataError(f"{redacted(info.path)} is stored rotated, as its header says: write it upright.")
    grid = min(infos, key=_pixel_area)
    for info in infos:
        _check_crs(info, grid)
    return grid


def _pixel_area(info: RasterInfo) -> float:
    return abs(Affine(*info.transform).determinant) if info.transform else math.inf


def _check_crs(info: RasterInfo, grid: RasterInfo) -> None:
    if (info.crs is None) != (grid.crs is None) or (info.crs and CRS.from_wkt(info.crs) != CRS.from_wkt(grid.crs)):
        raise DataError(
            f"{redacted(info.path)} and {redacted(grid.path)} differ in their coordinate reference system: warp one of "
            "them to the other's."
        )


def common_dtype(infos: Sequence[RasterInfo]) -> str:
    """Return the dtype that holds the numbers of all files, for example SAR and optical bands."""
    return str(np.result_type(*(info.dtype for info in infos)))


def band_nodata_values(infos: Sequence[RasterInfo], dtype: str) -> list[float | None]:
    """Return the nodata value of each file's band in the stack.

    It is the one that files declare, also for files without one. If files differ, it is NaN, or each file's own for
    integers.

    Args:
        infos: Headers of the files.
        dtype: The dtype of the stack.
    """
    own = [info.nodata for info in infos]
    given = {repr(value): value for value in own if value is not None}  # by text: NaN is not itself
    if len(given) > 1:
        return [math.nan] * len(own) if np.issubdtype(dtype, np.floating) else own
    return [next(iter(given.values()), None)] * len(own)


def locate(info: RasterInfo, grid: RasterInfo) -> Placement:
    """Return a file's placement on the grid.

    Raises:
        DataError: If it is rotated, or its edges are off by more than half of one of its pixels.
    """
    if (info.transform is None) != (grid.transform is None):
        lacking, other = (info, grid) if info.transform is None else (grid, info)
        raise DataError(f"{redacted(lacking.path)} has no georeference, unlike {redacted(other.path)}.")
    moved = Affine.identity()
    if info.transform and grid.transform:
        moved = ~Affine(*grid.transform) @ Affine(*info.transform)
    placement = Placement(moved.c, moved.f, moved.a, moved.e)
    turned = max(abs(moved.b), abs(moved.d)) * max(info.width, info.height) > EXACT
    if turned or moved.a <= 0 or moved.e <= 0:
        raise DataError(
            f"{redacted(info.path)} and {redacted(grid.path)} are rotated against each other: warp one of them."
        )
    off = placement.overhang(info, grid)
    allowed = [max(1.0, moved.a) / 2 + EXACT, max(1.0, moved.e) / 2 + EXACT] * 2
    if any(abs(o) > a for o, a in zip(off, allowed, strict=True)):
        raise DataError(
            f"{redacted(info.path)} and {redacted(grid.path)} do not cover the same area (left, top, right and bottom "
            f"edges are {', '.join(f'{abs(o):.1f}' for o in off)} pixels apart): cut them to the same."
        )
    return placement
