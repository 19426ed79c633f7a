"""Conversion of class maps to polygons, with simplified borders if wanted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from satseg.data.rasters.header import Window
from satseg.errors import ConfigError
from satseg.mapping.classmap import BLOCK, ClassMap, open_class_map
from satseg.mapping.layers import driver_of, open_layer
from satseg.mapping.merging import Merger
from satseg.mapping.polygons import Pieces, cut

logger = logging.getLogger(__name__)

REPORTED_CHANGE = 0.01  # relative change of a class area that is reported
MAX_POLYGON_CHANGE = 0.1  # largest relative change in the area of a polygon
MAX_CLASS_CHANGE = 0.01  # and in the total area of a class
MIN_TOLERANCE = 0.7  # pixels: the smallest triangle, at a step of one pixel, has half a pixel


def write_vectors(
    raster: Path,
    output: Path,
    class_names: Sequence[str],
    *,
    min_area_m2: float = 0.0,
    simplify_m: float = 0.0,
    block_size: int = BLOCK,
    warn: Callable[[str], object] = logger.warning,
) -> int:
    """Write the connected areas of a class map as polygons, complete and without gaps between neighbours.

    Pixels that touch only at a corner are not connected. Attributes: `class` (name), `value` (in the map) and
    `area_m2`, the true area of the written polygon, see `class_areas`. The map is read block by block; only polygons
    that continue in later blocks stay in memory, such as a background across the whole map.

    A map without a CRS gives a layer without a CRS: in pixels from the upper left corner, y down, unless the file has a
    geotransform. The attribute is then `area_px`, and `min_area_m2` and `simplify_m` are in pixels.

    Args:
        raster: Class map with one band; invalid (nodata) pixels are not in any polygon.
        output: A .gpkg, .geojson or .fgb file. GeoJSON is in WGS84 longitude and latitude, the others in the map's
            CRS.
        class_names: Names of the values 0, 1, …
        min_area_m2: Smaller polygons are dropped, leaving holes.
        simplify_m: Removes vertices from borders between polygons whose triangle is smaller than about the square of
            this length, as long as areas change little; see `simplify`. The outline of the valid area, and the points
            where borders cross block edges, are kept.
        block_size: Side of a block in pixels; without simplification the polygons do not depend on it.
        warn: Called with a message about classes whose polygons cover more than 1 % less or more than their pixels.

    Returns:
        The number of polygons.

    Raises:
        ConfigError: If the suffix is not supported, or an option is negative.
        RasterReadError: If the map is missing, truncated or not a raster.
        DataError: If it is not a class map, or holds a value that is not a class.
        ResourceError: If the output cannot be written.
    """
    driver_of(output)
    for name, value in (("min_area_m2", min_area_m2), ("simplify_m", simplify_m)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name}={value}: expected a number of 0 or more.")
    names = np.array(class_names, object)
    with open_class_map(raster, len(names)) as source, open_layer(output, source.ground.crs) as layer:
        ground = source.ground
        covered, written = np.zeros(len(names)), np.zeros(len(names))
        for polygons, values, pixels in _complete_polygons(source, simplify_m, block_size):
            areas = ground.areas(polygons)
            kept = pixels >= min_area_m2
            covered += np.bincount(values, weights=pixels, minlength=len(names))
            written += np.bincount(values[kept], weights=areas[kept], minlength=len(names))
            fields = {"class": names[values[kept]], "value": source.values[values[kept]].astype(np.int32)}
            fields["area_m2" if ground.metric else "area_px"] = areas[kept]
            layer.add(shapely.transform(polygons[kept], ground.to_crs), fields)
    if changed := _changed_areas(names, covered, written):
        warn(f"{output}: with min_area_m2={min_area_m2:g} and simplify_m={simplify_m:g}, {changed} than in the map.")
    return layer.count


def _complete_polygons(
    source: ClassMap, simplify_m: float, block_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield completed polygons in pixel coordinates, with their classes and pixel areas."""
    merger = Merger(source.source.width)
    for window in source.blocks(block_size):
        classes = source.read(Window(window.col - 1, window.row - 1, window.width + 2, window.height + 2))
        pieces = cut(classes, window.row, window.col)
        pieces = replace(pieces, areas=_areas(source, pieces, window))
        if simplify_m:
            tolerance = simplify_m / _pixel_side(source, window)
            pieces = replace(pieces, polygons=simplify(pieces.polygons, pieces.values, tolerance))
        yield merger.add(pieces, classes, window)


def _areas(source: ClassMap, pieces: Pieces, window: Window) -> np.ndarray:
    """Return the ground area of the pixels of each piece."""
    if source.ground.pixel_area is not None:
        return pieces.areas * source.ground.pixel_area
    sizes = source.ground.pixel_areas(window.row, window.col, window.height, window.width)
    weights = np.broadcast_to(sizes, pieces.labels.shape).ravel()
    areas: np.ndarray = np.bincount(pieces.labels.ravel(), weights, len(pieces.values) + 1)[1:]
    return areas


def _changed_areas(names: np.ndarray, covered: np.ndarray, written: np.ndarray) -> str:
    """Return a text about the classes whose area differs between polygons and pixels."""
    shares = np.divide(written - covered, covered, out=np.zeros(len(names)), where=covered > 0)
    found = [(name, share) for name, share in zip(names, shares, strict=True) if abs(share) > REPORTED_CHANGE]
    return ", ".join(f"{name} covers {abs(share):.1%} {'more' if share > 0 else 'less'}" for name, share in found)


def _pixel_side(source: ClassMap, window: Window) -> float:
    """Return the square root of the pixel area at the centre of a window; simplification is based on areas."""
    row, col = window.row + window.height // 2, window.col + window.width // 2
    return math.sqrt(source.ground.pixel_areas(row, col, 1, 1).item())


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
