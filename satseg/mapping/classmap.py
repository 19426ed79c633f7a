"""Block-wise reading of class maps."""

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
BLOCK = 1024  # side in pixels


@dataclass(frozen=True)
class ClassMap:
    """An open class map; see `open_class_map`.

    Attributes:
        values: The pixel value (K,) of each class.
    """

    source: Any
    values: np.ndarray
    ground: Ground

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.values)

    def blocks(self, size: int = BLOCK) -> Iterator[Window]:
        """Yield square blocks, row by row; those at the right and bottom edges are smaller."""
        height, width = self.source.shape
        for row in range(0, height, size):
            for col in range(0, width, size):
                yield Window(col, row, min(size, width - col), min(size, height - row))

    def read(self, window: Window) -> np.ndarray:
        """Read the classes of a window, int16 (height, width); -1 where invalid or outside the map.

        Raises:
            DataError: If a value is not a class.
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
        """Return the class, int16, of each pixel value; -1 for values that are not a class."""
        if (self.values == np.arange(self.num_classes)).all():
            is_class = (stored >= 0) & (stored < self.num_classes)
            return np.where(is_class, stored.astype(np.int16), np.int16(INVALID))
        order = np.argsort(self.values)
        indices = np.searchsorted(self.values[order], stored).clip(max=self.num_classes - 1)
        is_class = self.values[order][indices] == stored
        return np.where(is_class, order[indices].astype(np.int16), np.int16(INVALID))


@contextmanager
def open_class_map(path: Path, num_classes: int) -> Iterator[ClassMap]:
    """Open a class map.

    Raises:
        RasterReadError: If the file is missing, truncated or not a raster.
        DataError: If it does not have one band of uint8, or of other integers with the classes named in its tag.
    """
    with open_raster(path) as source:
        values = _values(source.tags(), num_classes)
        is_coded = values is not None and np.dtype(source.dtypes[0]).kind in "iu"
        if source.count != 1 or not (source.dtypes[0] == "uint8" or is_coded):
            raise DataError(
                f"{path} has {source.count} bands of {source.dtypes[0]}, but a class map has one of uint8; "
                "give a map written by satseg.predict."
            )
        yield ClassMap(source, np.arange(num_classes) if values is None else values, Ground.of(source))


def class_names_of(tags: Mapping[str, str]) -> dict[int, str]:
    """Return the class names by value from the tags of a map written by satseg, in class order."""
    return {int(value): name for value, name in json.loads(tags.get(TAG, "{}")).items()}


def _values(tags: Mapping[str, str], num_classes: int) -> np.ndarray | None:
    """Return the values in the tags if they name the expected number of classes."""
    try:
        values = list(class_names_of(tags))
    except (AttributeError, ValueError):  # a tag of another program
        return None
    return np.array(values) if len(values) == num_classes else None
