"""Locations of training patches: anywhere, or around pixels of a drawn class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from satseg.data.rasters.header import Window
from satseg.data.reader import SampleReader
from satseg.data.samples import Sample
from satseg.data.statistics import mask_tiles
from satseg.errors import ConfigError, DataError

CELL = 64  # edge in pixels of the cells whose classes are recorded

Size = tuple[int, int]  # height, width
Target = Window | None  # area that a patch must contain, as far as it fits


class PatchLocations(Protocol):
    """Chooses an image, and an area that the patch must contain, if any."""

    def choose(self, random: np.random.Generator) -> tuple[int, Target]:
        """Return the index of a sample, and the area."""


class Area:
    """Patches in proportion to area: all pixels are equally likely, except near the edges."""

    def __call__(self, samples: Sequence[Sample], reader: SampleReader) -> PatchLocations:
        """Return the locations of patches."""
        return AreaLocations([reader.size(s) for s in samples])


class Balanced:
    """Patches around classes, so that rare classes are seen too.

    The masks are read once to record the classes in each cell of CELL pixels; an epoch then reads only its patches.
    As a patch also holds other classes than the drawn one, pixels are never quite balanced.

    Args:
        power: 0 draws all classes equally often, 1 in proportion to the cells that hold them.
    """

    def __init__(self, power: float = 0.0) -> None:
        if isinstance(power, bool) or not isinstance(power, int | float) or not 0 <= power <= 1:
            raise ConfigError(f"dataset.sampler.power={power}: expected a number from 0 to 1.")
        self.power = power

    def __call__(self, samples: Sequence[Sample], reader: SampleReader) -> PatchLocations:
        """Return the locations of patches.

        Raises:
            DataError: If no pixel is labelled.
        """
        return ClassLocations.read(samples, reader, self.power)


class AreaLocations:
    """Images drawn in proportion to their area.

    Args:
        sizes: Height and width of each image.
    """

    def __init__(self, sizes: Sequence[Size]) -> None:
        areas = np.array([height * width for height, width in sizes], float)
        self._cumulative = np.cumsum(areas / areas.sum())

    def choose(self, random: np.random.Generator) -> tuple[int, Target]:
        """Return a random image, without an area: the patch may lie anywhere in it."""
        place = int(np.searchsorted(self._cumulative, random.random(), side="right"))
        return min(place, len(self._cumulative) - 1), None


@dataclass(frozen=True)
class ClassLocations:
    """Cells drawn by class.

    Attributes:
        sizes: Height and width of each sample.
        cells: For each class present, int32 (N, 3): sample, row and column of the cells that hold it.
        cumulative: Cumulative probability of the classes.
    """

    sizes: Sequence[Size]
    cells: Sequence[np.ndarray]
    cumulative: np.ndarray

    @classmethod
    def read(cls, samples: Sequence[Sample], reader: SampleReader, power: float) -> ClassLocations:
        """Read all masks once."""
        found: list[list[np.ndarray]] = [[] for _ in reader.labels.scheme.names]
        for index, sample in enumerate(samples):
            for window, mask in mask_tiles(sample, reader):
                for number, cells in enumerate(found):
                    rows, cols = np.nonzero(_cells_with(mask, number))
                    rows, cols = rows + window.row // CELL, cols + window.col // CELL
                    cells.append(np.stack([np.full_like(rows, index), rows, cols], axis=1).astype(np.int32))
        cells = [joined for parts in found if len(joined := np.concatenate(parts))]
        if not cells:
            raise DataError("The training masks have no labelled pixel.")
        weights = np.array([len(c) for c in cells], float) ** power
        return cls([reader.size(s) for s in samples], cells, np.cumsum(weights / weights.sum()))

    def choose(self, random: np.random.Generator) -> tuple[int, Target]:
        """Return a random cell of a random class."""
        place = int(np.searchsorted(self.cumulative, random.random(), side="right"))
        cells = self.cells[min(place, len(self.cells) - 1)]
        sample, row, col = (int(n) for n in cells[random.integers(len(cells))])
        height, width = self.sizes[sample]
        top, left = row * CELL, col * CELL
        return sample, Window(left, top, min(CELL, width - left), min(CELL, height - top))


def _cells_with(mask: np.ndarray, index: int) -> np.ndarray:
    """Return a boolean array (rows, columns) of the cells of a mask that hold a class."""
    there = mask == index
    height, width = there.shape
    there = np.pad(there, ((0, -height % CELL), (0, -width % CELL)))
    cells = there.reshape(len(there) // CELL, CELL, there.shape[1] // CELL, CELL)
    return np.asarray(cells.any((1, 3)))
