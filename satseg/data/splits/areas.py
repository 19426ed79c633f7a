"""Samples in the blocks of one frame: parts of large images, or whole small images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import shapely

from satseg.data.rasters.header import Window
from satseg.data.samples import Sample
from satseg.data.splits.frames import Frame
from satseg.data.splits.grid import Block, Grid
from satseg.errors import DataError

NO_INSETS = (0.0, 0.0, 0.0, 0.0)
Piece = tuple[Sample, str]  # with the name of its block


class BlockArea(Protocol):
    """The blocks of one frame, by name."""

    def sizes(self) -> dict[str, int]:
        """Return the size of each block."""

    def divide(self, side_of: Mapping[str, str]) -> list[Piece]:
        """Return the samples to use for an assignment of blocks to splits."""

    def notes(self, pieces: Sequence[Piece]) -> list[str]:
        """Return remarks about a division for the user."""


def lay_blocks(frame: Frame, edge: float, buffer: float) -> BlockArea:
    """Lay blocks over a frame; if any image is larger than a block, images are cut.

    Raises:
        DataError: If images are no larger than a block and have no georeference.
    """
    grid = Grid.over(frame.boxes, edge)
    if ((frame.boxes[:, 2:] - frame.boxes[:, :2]) > edge).any():
        return CutImages(frame, grid, buffer)
    if not frame.placed:
        raise DataError(
            f"dataset/split=blocks: {frame.samples[0].file} has no georeference and is no larger than a block; "
            "make dataset.split.size smaller, or choose dataset/split=group."
        )
    return WholeImages(frame, grid, buffer)


@dataclass(frozen=True)
class CutImages:
    """Division of images into one sample per block."""

    frame: Frame
    grid: Grid
    buffer: float

    def sizes(self) -> dict[str, int]:
        """Return the pixels of each block."""
        found: Counter[str] = Counter()
        for block, _, window in self._windows(None):
            found[_name(self.frame, block)] += window.width * window.height
        return dict(found)

    def divide(self, side_of: Mapping[str, str]) -> list[Piece]:
        """Return the parts of images, without the buffer."""
        blocks = {block: side_of[_name(self.frame, block)] for block, _, _ in self._windows(None)}
        return [(sample.part(window), _name(self.frame, block)) for block, sample, window in self._windows(blocks)]

    def notes(self, pieces: Sequence[Piece]) -> list[str]:
        """Return a remark about the share of pixels in the buffer."""
        used = sum(s.window.width * s.window.height for s, _ in pieces if s.window)
        lost = 1 - used / sum(self.sizes().values())
        what = f"{len(self.frame.samples)} images are" if len(self.frame.samples) > 1 else f"{self.frame.name} is"
        return [f"{what} cut into {len(pieces)} blocks; {lost:.1%} of the pixels are buffer between splits"]

    def _windows(self, sides: Mapping[Block, str] | None) -> Iterator[tuple[Block, Sample, Window]]:
        for sample, info, box in zip(self.frame.samples, self.frame.infos, self.frame.boxes, strict=True):
            first, last = self.grid.block_at(box[0], box[1]), self.grid.block_at(box[2], box[3])
            for block in np.ndindex(last[0] - first[0] + 1, last[1] - first[1] + 1):
                place = (first[0] + block[0], first[1] + block[1])
                if sides is not None and place not in sides:
                    continue
                insets = NO_INSETS if sides is None else self.grid.insets(place, sides, self.buffer)
                window = self.grid.window(place, box, (info.width, info.height), insets)
                if window is not None:
                    yield place, sample, window


@dataclass(frozen=True)
class WholeImages:
    """Assignment of whole images to the block of their centre."""

    frame: Frame
    grid: Grid
    buffer: float

    def sizes(self) -> dict[str, int]:
        """Return the number of images in each block."""
        return dict(Counter(self._blocks()))

    def divide(self, side_of: Mapping[str, str]) -> list[Piece]:
        """Return the images that are at least the buffer away from other splits."""
        blocks = self._blocks()
        sides = np.array([("test", "val", "train").index(side_of[block]) for block in blocks])
        kept = np.ones(len(blocks), bool)
        for weaker, stronger in ((2, 0), (2, 1), (1, 0)):  # training images are dropped first
            near = self._near(np.flatnonzero(sides == weaker), np.flatnonzero(sides == stronger))
            kept[near] = False
        return [(self.frame.samples[i], blocks[i]) for i in np.flatnonzero(kept)]

    def notes(self, pieces: Sequence[Piece]) -> list[str]:
        """Return a remark about the number of images left out."""
        lost = len(self.frame.samples) - len(pieces)
        found = f"{lost} of {len(self.frame.samples)} images are left out: closer to another split than the buffer"
        return [found] if lost else []

    def _blocks(self) -> list[str]:
        centres = (self.frame.boxes[:, :2] + self.frame.boxes[:, 2:]) / 2
        return [_name(self.frame, self.grid.block_at(x, y)) for x, y in centres]

    def _near(self, ours: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the indices among `ours` that overlap one of the others or are closer than the buffer."""
        boxes, slack = self.frame.boxes, 1e-6 * self.frame.pixel
        reach = boxes[ours] + np.array([-1, -1, 1, 1]) * self.buffer
        one, other = shapely.STRtree(shapely.box(*boxes[others].T)).query(shapely.box(*reach.T))
        mine, theirs = boxes[ours[one]], boxes[others[other]]
        gaps = np.maximum(theirs[:, :2] - mine[:, 2:], mine[:, :2] - theirs[:, 2:]).max(1)
        near: np.ndarray = np.unique(ours[one[gaps < self.buffer - slack]])
        return near


def _name(frame: Frame, block: Block) -> str:
    return f"{frame.name}:{block[0]}_{block[1]}"
