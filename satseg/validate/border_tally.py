"""Pixels on either side of classes' borders, drawn from an image part by part."""

from __future__ import annotations

import numpy as np

from satseg.validate.facts import Borders

MULTIPLIER, MODULUS = np.uint64(2_654_435_761), np.uint64(2**32)  # Knuth's multiplicative hash scatters neighbours


class BorderTally:
    """Draws pairs of neighbours in a row whose labels differ; the same pairs in whatever parts an image is read.

    Args:
        bands: Of the image.
        dtype: Of its numbers.
        width: In pixels.
        most: Pairs to keep.
    """

    def __init__(self, bands: int, dtype: str, width: int, most: int) -> None:
        self.width, self.most = width, most
        self.ranks = np.zeros(0, np.uint64)
        self.numbers, self.classes = np.zeros((bands, 2, 0), dtype), np.zeros((2, 0), np.uint8)

    def add(self, row: int, image: np.ndarray, usable: np.ndarray, classes: np.ndarray) -> None:
        """Add one part.

        Args:
            row: Its first row.
            image: Numbers (bands, height, width).
            usable: Boolean (height, width).
            classes: Class indices (height, width), IGNORE_INDEX for what has no label.
        """
        differ = (classes[:, 1:] != classes[:, :-1]) & usable[:, 1:] & usable[:, :-1]
        rows, columns = np.nonzero(differ)
        ranks = ((rows + row) * self.width + columns).astype(np.uint64) * MULTIPLIER % MODULUS
        if len(ranks) > self.most:
            kept = np.argpartition(ranks, self.most)[: self.most]
            rows, columns, ranks = rows[kept], columns[kept], ranks[kept]
        sides = np.stack([columns, columns + 1])
        ranks = np.concatenate([self.ranks, ranks])
        order = np.argsort(ranks, kind="stable")[: self.most]
        self.ranks = ranks[order]
        self.numbers = np.concatenate([self.numbers, image[:, rows, sides]], axis=2)[:, :, order]
        self.classes = np.concatenate([self.classes, classes[rows, sides]], axis=1)[:, order]

    def borders(self) -> Borders:
        """Return the pairs that were drawn."""
        return Borders(self.numbers, self.classes)
