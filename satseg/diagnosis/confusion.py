"""Confused pairs of classes, and the cost of each confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_PIXELS = 16  # below which a share of a true class is not meaningful


@dataclass(frozen=True)
class Confused:
    """A true class that is taken for another.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class it is taken for.
        pixels: Number of these pixels.
        share: Share of the true class's pixels.
        by_pixels: Rank among all such pairs by pixels, from 1.
        by_share: Rank by share, from 1; 0 if there are too few pixels to rank by share.
        gain: Gain in mIoU if these pixels were right; see `gains`.
    """

    truth: int
    predicted: int
    pixels: int
    share: float
    by_pixels: int
    by_share: int
    gain: float

    @property
    def key(self) -> tuple[int, int]:
        """Indices of the true and the predicted class."""
        return self.truth, self.predicted


def confused_pairs(matrix: np.ndarray) -> list[Confused]:
    """Return all pairs of classes with any confusion, most pixels first.

    Args:
        matrix: Counts (K, K), rows truth.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    shares = wrong / np.maximum(matrix.sum(1, keepdims=True), 1)
    ranked = np.where(wrong >= MIN_PIXELS, shares, -1)
    gained = gains(matrix)
    by_pixels, by_share = _ranks(wrong), _ranks(ranked)
    order = [divmod(int(i), len(matrix)) for i in np.argsort(-wrong, axis=None, kind="stable")]
    return [
        Confused(
            *pair,
            int(wrong[pair]),
            float(shares[pair]),
            int(by_pixels[pair]),
            int(by_share[pair]) if wrong[pair] >= MIN_PIXELS else 0,
            float(gained[pair]),
        )
        for pair in order
        if wrong[pair]
    ]


def top_pairs(pairs: Sequence[Confused], count: int) -> list[Confused]:
    """Return the pairs among the first `count` by pixels or by share of the true class, most pixels first."""
    return [pair for pair in pairs if pair.by_pixels <= count or 0 < pair.by_share <= count]


def gains(matrix: np.ndarray) -> np.ndarray:
    """Return the gain in mIoU, over the classes in truth, from correcting one confusion, all else being equal.

    Correcting pixels of class t that are taken for p leaves t's union unchanged and shrinks p's. The gains of a row
    add up to the gain of getting all of that class right.

    Args:
        matrix: Counts (K, K), rows truth.

    Returns:
        Gains (K, K), rows truth; 0 on the diagonal.
    """
    wrong = matrix.astype(np.float64)
    hits = np.diag(matrix).astype(np.float64)
    np.fill_diagonal(wrong, 0)
    union = matrix.sum(0) + matrix.sum(1) - hits
    in_truth = matrix.sum(1) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        found = wrong / union[:, None]
        spared = np.where(in_truth, hits / (union - wrong) - hits / union, 0)
    gained: np.ndarray = np.where(wrong > 0, found + spared, 0) / max(int(in_truth.sum()), 1)
    return gained


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value (K, K), 1 for the largest; ties in the order of the matrix."""
    ranks = np.empty(values.size, int)
    ranks[np.argsort(-values, axis=None, kind="stable")] = np.arange(1, values.size + 1)
    return ranks.reshape(values.shape)
