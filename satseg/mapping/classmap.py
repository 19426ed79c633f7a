"""Reading a class map block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satseg.data.opening import open_raster
from satseg.data.raster import Window, image_in
from satseg.errors import DataError
from satseg.mapping.ground import Ground

INVALID = -1
BLOCK = 1024  # pixels a side


@dataclass(frozen=True)
class ClassMap:
    """An open class map; `open_class_map` makes one."""

    source: Any
    num_classes: int
    ground: Ground

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
        image, valid = image_in(self.source, window, [1])
        classes: np.ndarray = np.where(valid, image[0].astype(np.int16), INVALID)
        if classes.max(initial=INVALID) >= self.num_classes:
            raise DataError(
                f"{self.source.name} holds value {classes.max()}, but there are {self.num_classes} classes "
                f"(0-{self.num_classes - 1}); name all classes of the map, or set its nodata value."
            )
        return classes


@contextmanager
def open_class_map(path: Path, num_classes: int) -> Iterator[ClassMap]:
    """Open a class map.

    Raises:
        RasterReadError: If the file is missing, truncated or no raster.
        DataError: If it is not one uint8 band.
    """
    with open_raster(path) as source:
        if source.count != 1 or source.dtypes[0] != "uint8":
            raise DataError(
                f"{path} has {source.count} bands of {source.dtypes[0]}, but a class map has one of uint8; "
                "give a map that predict wrote."
            )
        yield ClassMap(source, num_classes, Ground.of(source))
