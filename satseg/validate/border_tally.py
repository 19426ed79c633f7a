"""Sampling of pixel pairs along class borders, part by part."""

from __future__ import annotations

import numpy as np

from satseg.validate.facts import Borders

MULTIPLIER, MODULUS = np.uint64(2_654_435_761), np.uint64(2**32)  # Knuth's multiplicative hash scatters neighbours


class BorderTally:
    """Sampler of horizontal neighbours with different labels, independent of how an image is divided into parts.

    Args:
        bands: Number of bands.
        dtype: Dtype of the pixels.
        width: Width of the image, in pixels.
        most: Number of pairs to keep.
    """

    def __init__(self, bands: int, dtype: str, width: int, most: int) -> None:
        self.width, self.most = width, most
        self.ranks = np.zeros(0, np.uint64)
        self.numbers, self.classes = np.zeros((bands, 2, 0), dtype), np.zeros((2, 0), np.uint8)

    def add(self, row: int, image: np.ndarray, usable: np.ndarray, classes: np.ndarray) -> None:
        """Add one part.

        Args:
            row: Its first row.
            image: Values (bands, height, width).
            usable: Boolean (height, width).
            classes: Class indices (height, width), IGNORE_INDEX for unlabelled pixels.
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
        """Return the sampled pairs."""
        return Borders(self.numbers, self.classes)
