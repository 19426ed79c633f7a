"""Spatial blocks with a buffer between splits, against leakage from neighbouring pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from satseg.data.samples import Sample
from satseg.data.splits.areas import lay_blocks
from satseg.data.splits.checking import SPLITS, Splits, check_splits
from satseg.data.splits.draw import Draw, Wanted
from satseg.data.splits.frames import Frame, frames_of
from satseg.errors import ConfigError


class Blocks:
    """Splits by equal blocks of the ground, or of a scene (Roberts et al. 2017, Cross-validation strategies).

    Images larger than a block are cut: each block is a sample of its own, and pixels within half the buffer of a block
    of another split are not used. Smaller images belong to the block of their centre, and those closer than the buffer
    to an image of another split are left out: training images first, then validation images.

    Args:
        size: Edge of a block, adjusted slightly so that whole blocks fill the area.
        buffer: Least distance, along rows or columns, between pixels of different splits.
        unit: Unit of both: `pixels` (of the first image) or `metres`.
        val: Share of blocks to validate on.
        test: Share of blocks to test on.
        seed: Seed of the draw.
        fold: Index of the fold that validates in place of `val`; see `Draw`. Folds have about equally many pixels.
        folds: Number of folds.
    """

    def __init__(
        self,
        size: float,
        buffer: float,
        unit: Literal["pixels", "metres"] = "pixels",
        val: Wanted = 0.15,
        test: Wanted = 0.15,
        seed: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        if unit not in ("pixels", "metres"):
            raise ConfigError(f"dataset.split.unit={unit}: choose pixels or metres.")
        if not isinstance(size, int | float) or not isinstance(buffer, int | float) or not 0 <= buffer < size:
            raise ConfigError(
                f"dataset.split.size={size} and dataset.split.buffer={buffer}: expected a size above 0 and a smaller "
                f"buffer, in {unit}."
            )
        self.size, self.buffer, self.unit = size, buffer, unit
        self.draw = Draw(val, test, seed, fold, folds)
        self.notes: list[str] = []
        self._block_of: dict[str, str] = {}

    @property
    def is_random(self) -> bool:
        """Whether blocks are drawn rather than named."""
        return self.draw.is_random

    def group_of(self, sample: Sample) -> str:
        """Return the block of a sample, after the split."""
        return self._block_of.get(sample.name, sample.name)

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split, from the headers of the images.

        Raises:
            DataError: If images are no larger than a block and have no georeference.
            ConfigError: If the size is in metres, and an image has no known pixel size.
        """
        self.notes, self._block_of = [], {}
        frames = frames_of(samples)
        placed = sum(frame.placed for frame in frames)
        if placed > 1:
            self.notes.append(f"images have {placed} different CRS, without a buffer between them (warp them to one)")
        areas = [lay_blocks(f, self._length(f, self.size), self._length(f, self.buffer)) for f in frames]
        sides = self.draw({block: size for area in areas for block, size in area.sizes().items()})
        side_of = {block: side for side, blocks in sides.items() for block in blocks}
        splits: Splits = {side: [] for side in SPLITS}
        for area in areas:
            pieces = area.divide(side_of)
            for sample, block in pieces:
                splits[side_of[block]].append(sample)
                self._block_of[sample.name] = block
            self.notes += area.notes(pieces)
        hint = f"There are {len(side_of)} blocks of dataset.split.size={self.size:g} {self.unit}; make them smaller."
        return check_splits(splits, hint)

    def _length(self, frame: Frame, wanted: float) -> float:
        """Convert a length to units of the frame."""
        if self.unit == "pixels":
            return wanted * frame.pixel
        if frame.pixel_m is None:
            raise ConfigError(
                f"dataset.split.unit=metres: {frame.samples[0].file} has no known pixel size; use pixels."
            )
        return wanted / frame.pixel_m * frame.pixel
