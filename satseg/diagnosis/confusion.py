"""Which classes are taken for which, and what each such confusion costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 16  # pixels below which a share of a true class says little


@dataclass(frozen=True)
class Confused:
    """A true class that is taken for another.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class it is taken for.
        pixels: How many.
        share: Of the true class's pixels.
        by_pixels: Place among all such pairs by pixels, from 1.
        by_share: Place by share, from 1; 0 where there are too few pixels to be ranked by their share.
        gain: What mIoU would gain if these pixels were right; see `gains`.
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
    """Return all pairs of classes that are confused at all, by pixels.

    Args:
        matrix: Counts (K, K), rows truth.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    shares = wrong / np.maximum(matrix.sum(1, keepdims=True), 1)
    ranked = np.where(wrong >= LEAST, shares, -1)
    gained = gains(matrix)
    by_pixels, by_share = _places(wrong), _places(ranked)
    order = [divmod(int(i), len(matrix)) for i in np.argsort(-wrong, axis=None, kind="stable")]
    return [
        Confused(
            *pair,
            int(wrong[pair]),
            float(shares[pair]),
            int(by_pixels[pair]),
            int(by_share[pair]) if wrong[pair] >= LEAST else 0,
            float(gained[pair]),
        )
        for pair in order
        if wrong[pair]
    ]


def foremost(pairs: Sequence[Confused], count: int) -> list[Confused]:
    """Return the pairs that are among the first `count` by pixels, by share of the true class, or both; by pixels."""
    return [pair for pair in pairs if pair.by_pixels <= count or 0 < pair.by_share <= count]


def gains(matrix: np.ndarray) -> np.ndarray:
    """Return what mIoU, over the classes in truth, would gain if one confusion were right and all else as it is.

    Pixels of class t that are taken for p and become right leave t's union as it is and shrink p's. The gains of a
    row add up to the gain of getting all of that class right.

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


def _places(values: np.ndarray) -> np.ndarray:
    """Return the place of each value (K, K), 1 for the largest; equals in the order of the matrix."""
    places = np.empty(values.size, int)
    places[np.argsort(-values, axis=None, kind="stable")] = np.arange(1, values.size + 1)
    return places.reshape(values.shape)
