"""Grid of blocks in a plane, with gaps between blocks of different splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from satseg.data.rasters.header import Window

Block = tuple[int, int]  # row, column
SLACK = 1e-6  # in pixels, against rounding errors


@dataclass(frozen=True)
class Grid:
    """Equal blocks that fill a rectangle.

    Attributes:
        left: Left edge of the rectangle.
        top: Top edge; y points down.
        width: Width of a block.
        height: Height of a block.
        rows: Number of blocks.
        cols: Number of blocks.
    """

    left: float
    top: float
    width: float
    height: float
    rows: int
    cols: int

    @classmethod
    def over(cls, boxes: np.ndarray, edge: float) -> Grid:
        """Lay a grid over boxes (N, 4), with whole blocks of about the given edge."""
        (left, top), (right, bottom) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
        cols, rows = max(1, round((right - left) / edge)), max(1, round((bottom - top) / edge))
        return cls(left, top, (right - left) / cols, (bottom - top) / rows, rows, cols)

    def block_at(self, x: float, y: float) -> Block:
        """Return the block that contains a point."""
        row, col = math.floor((y - self.top) / self.height), math.floor((x - self.left) / self.width)
        return min(max(row, 0), self.rows - 1), min(max(col, 0), self.cols - 1)

    def insets(self, block: Block, sides: Mapping[Block, str], buffer: float) -> tuple[float, float, float, float]:
        """Return the insets of a block at its left, top, right and bottom edges.

        Two blocks of different splits that share an edge or a corner are then at least the buffer apart: each gives
        half of it.
        """

        def differs(down: int, right: int) -> bool:
            row, col = block[0] + down, block[1] + right
            inside = 0 <= row < self.rows and 0 <= col < self.cols
            return inside and sides.get((row, col)) != sides[block]

        left, top, right, bottom = differs(0, -1), differs(-1, 0), differs(0, 1), differs(1, 0)
        # At a corner an inset at one of the two edges suffices; the other block has its own.
        left |= (differs(-1, -1) and not top) or (differs(1, -1) and not bottom)
        right |= (differs(-1, 1) and not top) or (differs(1, 1) and not bottom)
        return left * buffer / 2, top * buffer / 2, right * buffer / 2, bottom * buffer / 2

    def window(self, block: Block, box: np.ndarray, size: tuple[int, int], insets: tuple[float, ...]) -> Window | None:
        """Return the window of an image within a block, or None if it is empty.

        Args:
            block: The block.
            box: The image's left, top, right and bottom.
            size: The image's width and height in pixels.
            insets: Insets at the block's edges, as from `insets`.
        """
        (row, col), pixels = block, ((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
        starts = self.left + col * self.width - box[0], self.top + row * self.height - box[1]
        left, right = _span(starts[0], self.width, insets[0], insets[2], pixels[0], size[0])
        top, bottom = _span(starts[1], self.height, insets[1], insets[3], pixels[1], size[1])
        return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _span(start: float, length: float, before: float, after: float, pixel: float, count: int) -> tuple[int, int]:
    """Return the first pixel and the one after the last; adjacent blocks without a gap share an edge."""
    first, last = start / pixel, (start + length) / pixel
    first = math.ceil(first + before / pixel - SLACK) if before else math.floor(first + 0.5)
    last = math.floor(last - after / pixel + SLACK) if after else math.floor(last + 0.5)
    return max(first, 0), min(last, count)
