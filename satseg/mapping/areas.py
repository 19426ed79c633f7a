"""How much ground each class covers."""

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
UNITS = ((10e6, 1e6, "km²"), (100, SQUARE_METRES_PER_HECTARE, "ha"), (0, 1, "m²"))  # from so many m² on, of so many
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
DIGITS = 3  # that are significant


@dataclass(frozen=True)
class ClassArea:
    """What one class covers.

    Attributes:
        name: Of the class.
        pixels: How many it has.
        share: Of the valid pixels, 0 to 1; None where none is valid.
        area_m2: On the ground, in square metres; None for a map without coordinates.
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
    """Return an area in the unit that suits its size, with three significant digits: `85.3 m²`, `1.23 ha`, `12.3 km²`.

    Args:
        area_m2: In square metres; hectares begin at 100 of them, square kilometres at 1,000 hectares.
    """
    if area_m2 == 0:
        return f"0{NO_BREAK_SPACE}ha"
    size, unit = next((size, unit) for least, size, unit in UNITS if area_m2 >= least)
    rounded = float(f"{area_m2 / size:.{DIGITS}g}")
    decimals = max(0, DIGITS - 1 - math.floor(math.log10(rounded)))
    return f"{area_m2 / size:,.{decimals}f}{NO_BREAK_SPACE}{unit}"


def class_areas(raster: Path, class_names: Sequence[str]) -> list[ClassArea]:
    """Sum up the area of each class, block by block.

    Areas are those of the grid where it keeps them to 0.25 % all over the map, as that of a UTM zone does. Elsewhere,
    as where the CRS is geographic, Mercator or polar stereographic, they are those on the ellipsoid.

    Args:
        raster: Class map, one band; nodata marks what is invalid.
        class_names: Name of value 0, 1, …

    Returns:
        One entry a class, in their order, also for a class that the map does not have.

    Raises:
        RasterReadError: If the file is missing, truncated or no raster.
        DataError: If it is no class map, or holds a value that is no class.
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
    """Yield pixels and area by class."""
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
    """Write class areas as CSV; what is not known, such as square metres without coordinates, stays empty.

    Raises:
        ResourceError: If the file cannot be written.
    """
    _write(output, COLUMNS, [_row(area) for area in areas])


def write_all_areas(areas: Mapping[str, Sequence[ClassArea]], output: Path) -> None:
    """Write the class areas of several maps as CSV: a row a map and class, then the sum of each class.

    What two maps both cover counts twice in the sums. Where a map has no square metres, the sums have none.

    Args:
        areas: Of the same classes, by the map's name.
        output: The file.

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
