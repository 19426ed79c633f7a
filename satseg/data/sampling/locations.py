"""Where training patches may lie: anywhere, or where a class is that is to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from satseg.data.rasters.raster import Window
from satseg.data.reader import SampleReader
from satseg.data.samples import Sample
from satseg.data.statistics import mask_tiles
from satseg.errors import ConfigError, DataError

CELL = 64  # pixels along a side of the cells whose classes are known

Size = tuple[int, int]  # height, width
Target = Window | None  # what a patch must contain as much of as fits


class PatchLocations(Protocol):
    """Chooses an image, and a part of it that the patch must contain, if any."""

    def choose(self, random: np.random.Generator) -> tuple[int, Target]:
        """Return the index of a sample, and the part."""


class Area:
    """Patches are drawn in proportion to area: each pixel is seen as often as any other, but for the edges."""

    def __call__(self, samples: Sequence[Sample], reader: SampleReader) -> PatchLocations:
        """Return where patches may lie."""
        return AreaLocations([reader.size(s) for s in samples])


class Balanced:
    """Patches are drawn around classes, so that rare ones are seen too.

    The masks are read once, to know which classes each cell of CELL pixels has; an epoch then reads no more than its
    patches. A patch holds other classes than that which it was drawn for, so pixels are never quite balanced.

    Args:
        power: 0 draws every class equally often; 1 as often as there are cells that have it.
    """

    def __init__(self, power: float = 0.0) -> None:
        if isinstance(power, bool) or not isinstance(power, int | float) or not 0 <= power <= 1:
            raise ConfigError(f"dataset.sampler.power={power}: expected a number from 0 to 1.")
        self.power = power

    def __call__(self, samples: Sequence[Sample], reader: SampleReader) -> PatchLocations:
        """Return where patches may lie.

        Raises:
            DataError: If no pixel is labelled.
        """
        return ClassLocations.read(samples, reader, self.power)


class AreaLocations:
    """Images, drawn by their area.

    Args:
        sizes: Height and width of each.
    """

    def __init__(self, sizes: Sequence[Size]) -> None:
        areas = np.array([height * width for height, width in sizes], float)
        self._cumulative = np.cumsum(areas / areas.sum())

    def choose(self, random: np.random.Generator) -> tuple[int, Target]:
        """Draw an image; the patch may lie anywhere in it."""
        place = int(np.searchsorted(self._cumulative, random.random(), side="right"))
        return min(place, len(self._cumulative) - 1), None


@dataclass(frozen=True)
class ClassLocations:
    """Cells by class.

    Attributes:
        sizes: Height and width of each sample.
        cells: For each class that there is, int32 (N, 3): sample, row and column of the cells that have it.
        cumulative: Probability of a class up to this one.
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
        """Draw a class, and a cell that has it."""
        place = int(np.searchsorted(self.cumulative, random.random(), side="right"))
        cells = self.cells[min(place, len(self.cells) - 1)]
        sample, row, col = (int(n) for n in cells[random.integers(len(cells))])
        height, width = self.sizes[sample]
        top, left = row * CELL, col * CELL
        return sample, Window(left, top, min(CELL, width - left), min(CELL, height - top))


def _cells_with(mask: np.ndarray, index: int) -> np.ndarray:
    """Return which cells (rows, columns) of a mask have a class."""
    there = mask == index
    height, width = there.shape
    there = np.pad(there, ((0, -height % CELL), (0, -width % CELL)))
    cells = there.reshape(len(there) // CELL, CELL, there.shape[1] // CELL, CELL)
    return np.asarray(cells.any((1, 3)))
