"""Simplification of polygon borders that approximately preserves areas."""

from __future__ import annotations

import numpy as np
import shapely

MAX_POLYGON_CHANGE = 0.1  # largest relative change in the area of a polygon
MAX_CLASS_CHANGE = 0.01  # and in the total area of a class
MIN_TOLERANCE = 0.7  # pixels: the smallest triangle, at a step of one pixel, has half a pixel


def simplify(polygons: np.ndarray, values: np.ndarray, tolerance: float) -> np.ndarray:
    """Simplify a coverage; neighbours still share all vertices of their common border, and the outline is unchanged.

    Vertices are removed by the area of their triangle (Visvalingam and Whyatt 1993). On its own, this would turn small
    squares into triangles and shrink compact shapes. Therefore the tolerance is doubled step by step, and a polygon
    whose area would change by more than MAX_POLYGON_CHANGE keeps its shape of the previous step; so do polygons that
    would change the total area of their class by more than MAX_CLASS_CHANGE.

    Args:
        polygons: Polygons of a block, in pixel coordinates, that share all vertices of common borders.
        values: The class of each polygon.
        tolerance: Square root of the triangle area, in pixels.

    Returns:
        The polygons in the same order.
    """
    areas: np.ndarray = shapely.area(polygons)
    simpler = polygons
    is_done = np.zeros(len(polygons), bool)
    for step in _steps(tolerance):
        while not is_done.all():
            tried = simpler.copy()
            # Borders with finished polygons become outlines, which are kept.
            tried[~is_done] = shapely.coverage_simplify(simpler[~is_done], step, simplify_boundary=False)
            refused = _refused(areas, shapely.area(simpler), shapely.area(tried), values)
            if not refused.any():
                simpler = tried
                break
            is_done |= refused
    return simpler


def _steps(tolerance: float) -> list[float]:
    steps = []
    while tolerance >= MIN_TOLERANCE:
        steps.append(tolerance)
        tolerance /= 2
    return steps[::-1]


def _refused(areas: np.ndarray, before: np.ndarray, after: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the polygons that a step must not change, boolean (n,), from their original, previous and new areas."""
    error, change = after - areas, after - before
    refused: np.ndarray = (np.abs(error) > MAX_POLYGON_CHANGE * areas) & (change != 0)
    if refused.any():
        return refused
    totals, errors = np.bincount(values, weights=areas), np.bincount(values, weights=error)
    for index in np.flatnonzero(np.abs(errors) > MAX_CLASS_CHANGE * totals).tolist():
        growth = np.sign(errors[index]) * change
        candidates = np.flatnonzero((values == index) & (growth > 0))
        worst = candidates[np.argsort(-(growth / areas)[candidates], kind="stable")]
        excess = abs(errors[index]) - MAX_CLASS_CHANGE * totals[index]
        refused[worst[: np.searchsorted(np.cumsum(growth[worst]), excess) + 1]] = True
    return refused
