"""Finding rows of numbers that are alike, among millions of pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 1024  # rows at a time


def cell_weights(size: int, cells: int, zoom: float = 1.0, pixels: range | None = None) -> np.ndarray:
    """Return the shares of pixels in cells of equal size that cover the middle 1 / zoom of a side.

    Args:
        size: Of the side, in pixels.
        cells: How many there are.
        zoom: How much of the side they leave out.
        pixels: Which ones are asked for: all, unless given.

    Returns:
        Shape (cells, pixels), float64.
    """
    step = size / zoom / cells
    borders = (size - size / zoom) / 2 + np.arange(cells + 1) * step
    starts = np.asarray(range(size) if pixels is None else pixels)
    covered = np.minimum(borders[1:, None], starts + 1) - np.maximum(borders[:-1, None], starts)
    shares: np.ndarray = np.clip(covered, 0, None) / step
    return shares


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, length) scaled to length 1, as float32; a row without any variation stays 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def alike(one: np.ndarray, other: np.ndarray, least: float, clear: float = 0.0) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of rows whose correlation is at least so much.

    Args:
        one: Rows of length 1, (n, length).
        other: Rows of length 1, (m, length).
        least: Lowest correlation.
        clear: How many standard deviations it must be above 0, were the signs of the products left to chance;
            that is less the fewer numbers make up the sum, so one step at the same place is no likeness.

    Yields:
        Index in `one`, index in `other`, correlation.
    """
    for start in range(0, len(one), CHUNK):
        part = one[start : start + CHUNK]
        found = part @ other.T
        rows, columns = np.nonzero(found >= least)
        for first in range(0, len(rows), CHUNK):
            some = slice(first, first + CHUNK)
            values = found[rows[some], columns[some]]
            spread = np.sqrt(((part[rows[some]] * other[columns[some]]) ** 2).sum(1))
            for place in np.flatnonzero(values >= clear * spread).tolist():
                yield start + int(rows[first + place]), int(columns[first + place]), float(values[place])
