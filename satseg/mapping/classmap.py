"""Reading a class map block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satseg.data.rasters.header import Window
from satseg.data.rasters.opening import open_raster
from satseg.data.rasters.raster import read_open_image
from satseg.errors import DataError
from satseg.mapping.ground import Ground

TAG = "SATSEG_CLASSES"  # class names by value, as JSON
INVALID = -1
BLOCK = 1024  # pixels a side


@dataclass(frozen=True)
class ClassMap:
    """An open class map; `open_class_map` makes one.

    Attributes:
        values: The number (K,) that stands for each class.
    """

    source: Any
    values: np.ndarray
    ground: Ground

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.values)

    def blocks(self, size: int = BLOCK) -> Iterator[Window]:
        """Cut the map into squares, row by row; those at the right and lower edge are smaller."""
        height, width = self.source.shape
        for row in range(0, height, size):
            for col in range(0, width, size):
                yield Window(col, row, min(size, width - col), min(size, height - row))

    def read(self, window: Window) -> np.ndarray:
        """Read a window's classes, int16 (height, width); -1 where the map is invalid or ends.

        Raises:
            DataError: If a value is no class.
        """
        image, valid = read_open_image(self.source, window, [1])
        classes = self.classes(image[0])
        if (unknown := image[0][valid & (classes == INVALID)]).size:
            first, last = self.values.min(), self.values.max()
            raise DataError(
                f"{self.source.name} holds value {unknown.max()}, but there are {self.num_classes} classes "
                f"({first}-{last}); name all classes of the map, or set its nodata value."
            )
        classes[~valid] = INVALID
        return classes

    def classes(self, stored: np.ndarray) -> np.ndarray:
        """Return the class, int16, of each number that is stored; -1 of those that stand for none."""
        if (self.values == np.arange(self.num_classes)).all():
            is_class = (stored >= 0) & (stored < self.num_classes)
            return np.where(is_class, stored.astype(np.int16), np.int16(INVALID))
        order = np.argsort(self.values)
        places = np.searchsorted(self.values[order], stored).clip(max=self.num_classes - 1)
        is_class = self.values[order][places] == stored
        return np.where(is_class, order[places].astype(np.int16), np.int16(INVALID))


@contextmanager
def open_class_map(path: Path, num_classes: int) -> Iterator[ClassMap]:
    """Open a class map.

    Raises:
        RasterReadError: If the file is missing, truncated or no raster.
        DataError: If it is not one band of uint8, or of other integers that its tag names the classes of.
    """
    with open_raster(path) as source:
        values = _values(source.tags(), num_classes)
        is_coded = values is not None and np.dtype(source.dtypes[0]).kind in "iu"
        if source.count != 1 or not (source.dtypes[0] == "uint8" or is_coded):
            raise DataError(
                f"{path} has {source.count} bands of {source.dtypes[0]}, but a class map has one of uint8; "
                "give a map that predict wrote."
            )
        yield ClassMap(source, np.arange(num_classes) if values is None else values, Ground.of(source))


def class_names_of(tags: Mapping[str, str]) -> dict[int, str]:
    """Return the class names by value that a map of ours carries, in the order of the classes."""
    return {int(value): name for value, name in json.loads(tags.get(TAG, "{}")).items()}


def _values(tags: Mapping[str, str], num_classes: int) -> np.ndarray | None:
    """Return the numbers of so many classes, where a map names as many."""
    try:
        values = list(class_names_of(tags))
    except (AttributeError, ValueError):  # another program's tag
        return None
    return np.array(values) if len(values) == num_classes else None
