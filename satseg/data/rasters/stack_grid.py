"""Whether files of single bands fit together, and where each lies on the grid of the finest_grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio import CRS, Affine

from satseg.data.rasters.opening import redacted
from satseg.data.rasters.raster import RasterInfo
from satseg.errors import DataError

EXACT = 0.01  # of a pixel


@dataclass(frozen=True)
class Placement:
    """Where a file's pixels lie on the grid: its origin and the size of one of its pixels, in pixels of the grid."""

    x: float
    y: float
    width: float
    height: float

    def overhang(self, info: RasterInfo, grid: RasterInfo) -> tuple[float, float, float, float]:
        """Return by how many pixels of the grid the file reaches over it: left, top, right, bottom."""
        right = self.x + self.width * info.width - grid.width
        return -self.x, -self.y, right, self.y + self.height * info.height - grid.height


def finest_grid(infos: Sequence[RasterInfo]) -> RasterInfo:
    """Return the file of the smallest pixels, the first of several.

    Raises:
        DataError: If a file has several bands, is stored turned, or differs from the finest_grid in CRS.
    """
    for info in infos:
        if info.count != 1:
            raise DataError(f"{redacted(info.path)} has {info.count} bands, but a file for one band was expected.")
        if info.turned:
            raise DataError(f"{redacted(info.path)} is stored turned, as its header says: write it upright.")
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
    """Return the dtype that holds the numbers of all files, such as those of SAR beside optical bands."""
    return str(np.result_type(*(info.dtype for info in infos)))


def band_nodata_values(infos: Sequence[RasterInfo], dtype: str) -> list[float | None]:
    """Return the nodata value of each file's band in the stack.

    It is the one that files declare, in those too that declare none; where they differ, NaN, or each file's own where
    numbers are integers.

    Args:
        infos: Of the files.
        dtype: What their numbers become.
    """
    own = [info.nodata for info in infos]
    given = {repr(value): value for value in own if value is not None}  # by text: NaN is not itself
    if len(given) > 1:
        return [math.nan] * len(own) if np.issubdtype(dtype, np.floating) else own
    return [next(iter(given.values()), None)] * len(own)


def locate(info: RasterInfo, grid: RasterInfo) -> Placement:
    """Find a file's place on the grid.

    Raises:
        DataError: If it is turned, or covers another area: more than half of its own pixels is too much.
    """
    if (info.transform is None) != (grid.transform is None):
        lacking, other = (info, grid) if info.transform is None else (grid, info)
        raise DataError(f"{redacted(lacking.path)} does not say where it lies, as {redacted(other.path)} does.")
    moved = Affine.identity()
    if info.transform and grid.transform:
        moved = ~Affine(*grid.transform) @ Affine(*info.transform)
    placement = Placement(moved.c, moved.f, moved.a, moved.e)
    turned = max(abs(moved.b), abs(moved.d)) * max(info.width, info.height) > EXACT
    if turned or moved.a <= 0 or moved.e <= 0:
        raise DataError(
            f"{redacted(info.path)} and {redacted(grid.path)} are turned against each other: warp one of them."
        )
    off = placement.overhang(info, grid)
    allowed = [max(1.0, moved.a) / 2 + EXACT, max(1.0, moved.e) / 2 + EXACT] * 2
    if any(abs(o) > a for o, a in zip(off, allowed, strict=True)):
        raise DataError(
            f"{redacted(info.path)} and {redacted(grid.path)} do not cover the same area (left, top, right and bottom "
            f"edges are {', '.join(f'{abs(o):.1f}' for o in off)} pixels apart): cut them to the same."
        )
    return placement
