"""Taking vertices out of the borders between polygons, as long as these keep their areas."""

from __future__ import annotations

import numpy as np
import shapely

MAX_POLYGON_CHANGE = 0.1  # how much of its area a polygon may win or lose
MAX_CLASS_CHANGE = 0.01  # and all those of a class together
MIN_TOLERANCE = 0.7  # pixels: a step of one pixel is a triangle of half of one, and nothing is smaller


def simplify(polygons: np.ndarray, values: np.ndarray, tolerance: float) -> np.ndarray:
    """Simplify a coverage: neighbours go on sharing their borders vertex by vertex, and its outline stays.

    Vertices are taken out by the area of the triangle that goes with each (Visvalingam and Whyatt 1993). That alone
    would make a triangle of a small square, and all that is compact smaller. So it is done in steps, each twice as
    coarse as the one before, and a polygon whose area a step would change by more than MAX_POLYGON_CHANGE stays as the
    step before left it; so do those that would change the total of their class by more than MAX_CLASS_CHANGE.

    Args:
        polygons: A block's, in pixel coordinates, which share their borders vertex by vertex.
        values: The class of each.
        tolerance: Root of the area of the triangles, in pixels.

    Returns:
        The polygons in the same order.
    """
    areas: np.ndarray = shapely.area(polygons)
    simpler = polygons
    is_done = np.zeros(len(polygons), bool)
    for step in _steps(tolerance):
        while not is_done.all():
            tried = simpler.copy()
            # What is left out makes its neighbours' borders with it outlines, and these stay.
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
    """Return which polygons a step must leave alone, a boolean (n,), by their areas: at first, before it, after it."""
    error, change = after - areas, after - before
    refused: np.ndarray = (np.abs(error) > MAX_POLYGON_CHANGE * areas) & (change != 0)
    if refused.any():
        return refused
    totals, errors = np.bincount(values, weights=areas), np.bincount(values, weights=error)
    for index in np.flatnonzero(np.abs(errors) > MAX_CLASS_CHANGE * totals).tolist():
        growth = np.sign(errors[index]) * change
        guilty = np.flatnonzero((values == index) & (growth > 0))
        worst = guilty[np.argsort(-(growth / areas)[guilty], kind="stable")]
        excess = abs(errors[index]) - MAX_CLASS_CHANGE * totals[index]
        refused[worst[: np.searchsorted(np.cumsum(growth[worst]), excess) + 1]] = True
    return refused
