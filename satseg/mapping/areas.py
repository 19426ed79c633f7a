"""Ground area of each class."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satseg.files import write_text
from satseg.mapping.classmap import INVALID, ClassMap, open_class_map

COLUMNS = ("class", "pixels", "share", "area_m2", "area_ha")
TOTAL = "all scenes"
SQUARE_METRES_PER_HECTARE = 10_000
UNITS = ((10e6, 1e6, "km²"), (100, SQUARE_METRES_PER_HECTARE, "ha"), (0, 1, "m²"))  # smallest area, size, name
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
DIGITS = 3  # significant digits


@dataclass(frozen=True)
class ClassArea:
    """Area of one class.

    Attributes:
        name: Name of the class.
        pixels: Number of its pixels.
        share: Share of the valid pixels, 0 to 1; None if no pixel is valid.
        area_m2: Ground area in square metres; None for a map without coordinates.
    """

    name: str
    pixels: int
    share: float | None
    area_m2: float | None

    @property
    def area_ha(self) -> float | None:
        """The area in hectares."""
        return None if self.area_m2 is None else self.area_m2 / SQUARE_METRES_PER_HECTARE


def format_area(area_m2: float) -> str:
    """Return an area as text in a suitable unit, with three significant digits: `85.3 m²`, `1.23 ha`, `12.3 km²`.

    Args:
        area_m2: Area in square metres; hectares are used from 100 m² on, square kilometres from 1,000 ha on.
    """
    if area_m2 == 0:
        return f"0{NO_BREAK_SPACE}ha"
    size, unit = next((size, unit) for least, size, unit in UNITS if area_m2 >= least)
    rounded = float(f"{area_m2 / size:.{DIGITS}g}")
    decimals = max(0, DIGITS - 1 - math.floor(math.log10(rounded)))
    return f"{area_m2 / size:,.{decimals}f}{NO_BREAK_SPACE}{unit}"


def class_areas(raster: Path, class_names: Sequence[str]) -> list[ClassArea]:
    """Return the area of each class; the map is read block by block.

    If the CRS preserves areas to 0.25 % all over the map, as in a UTM zone, areas are those of the projected grid.
    Otherwise, such as for geographic, Mercator or polar stereographic CRSs, areas are those on the ellipsoid.

    Args:
        raster: Class map with one band; nodata marks invalid pixels.
        class_names: Names of the values 0, 1, …

    Returns:
        One entry per class, in order, including classes that do not occur.

    Raises:
        RasterReadError: If the file is missing, truncated or not a raster.
        DataError: If it is not a class map, or holds a value that is not a class.
    """
    pixels, sizes = np.zeros(len(class_names), np.int64), np.zeros(len(class_names))
    with open_class_map(raster, len(class_names)) as source:
        for counted, measured in _by_block(source):
            pixels += counted
            sizes += measured
        metric = source.ground.metric
    total = int(pixels.sum())
    return [
        ClassArea(name, int(count), int(count) / total if total else None, float(size) if metric else None)
        for name, count, size in zip(class_names, pixels, sizes, strict=True)
    ]


def _by_block(source: ClassMap) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield the pixels and the area by class for each block."""
    for window in source.blocks():
        classes = source.read(window)
        valid = classes != INVALID
        counted = np.bincount(classes[valid], minlength=source.num_classes)
        if source.ground.pixel_area is not None:
            yield counted, counted * source.ground.pixel_area
            continue
        sizes = source.ground.pixel_areas(window.row, window.col, window.height, window.width)
        weights = np.broadcast_to(sizes, classes.shape)[valid]
        yield counted, np.bincount(classes[valid], weights, minlength=source.num_classes)


def write_areas(areas: Iterable[ClassArea], output: Path) -> None:
    """Write class areas as CSV; unknown values, such as square metres without coordinates, are empty.

    Raises:
        ResourceError: If the file cannot be written.
    """
    _write(output, COLUMNS, [_row(area) for area in areas])


def write_all_areas(areas: Mapping[str, Sequence[ClassArea]], output: Path) -> None:
    """Write the class areas of several maps as CSV: one row per map and class, then the sum of each class.

    Overlap between maps counts twice in the sums. If a map has no square metres, neither have the sums.

    Args:
        areas: Areas of the same classes, by map name.
        output: Output file.

    Raises:
        ResourceError: If the file cannot be written.
    """
    rows = [[name, *_row(area)] for name, own in areas.items() for area in own]
    sums = [_sum(of_class) for of_class in zip(*areas.values(), strict=True)]
    total = sum(area.pixels for area in sums)
    rows += [[TOTAL, *_row(replace(area, share=area.pixels / total if total else None))] for area in sums]
    _write(output, ["scene", *COLUMNS], rows)


def _sum(areas: Sequence[ClassArea]) -> ClassArea:
    sizes = [area.area_m2 for area in areas]
    known = None if None in sizes else math.fsum(size for size in sizes if size is not None)
    return ClassArea(areas[0].name, sum(area.pixels for area in areas), None, known)


def _row(area: ClassArea) -> list[Any]:
    return [area.name, area.pixels, area.share, area.area_m2, area.area_ha]


def _write(output: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_text(output, text.getvalue())
