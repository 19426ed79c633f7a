"""Permutation test for a difference between donors of different classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 4000
POWER = 1.28  # standard deviations above the threshold, for a power of 90 %


@dataclass(frozen=True, eq=False)
class Contrast:
    """A difference in outcome that is zero if a donor's class does not matter.

    Attributes:
        values: Outcome by recipient and donor (R, D); NaN where not tried.
        lower: Class held by the donors expected to give the lower outcome; None for all that do not hold `higher`.
        higher: Class held by the donors expected to give the higher outcome; None for all that do not hold `lower`.
    """

    values: np.ndarray
    lower: int | None
    higher: int | None

    def donor_masks(self, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return masks of the donors of the lower and of the higher outcome; a donor with both classes is in neither.

        Args:
            holds: Boolean (..., K): donor holds class.

        Returns:
            Two boolean masks (...).
        """
        if self.lower is None or self.higher is None:
            one = holds[..., self.higher if self.lower is None else self.lower]
            return (~one, one) if self.lower is None else (one, ~one)
        lower, higher = holds[..., self.lower], holds[..., self.higher]
        return lower & ~higher, higher & ~lower

    def effects(self, holds: np.ndarray) -> np.ndarray:
        """Return each recipient's mean outcome with higher minus lower donors (R,); NaN without either."""
        low, high = self.donor_masks(holds)
        made: np.ndarray = _mean(self.values[:, high], 1) - _mean(self.values[:, low], 1)
        return made


@dataclass(frozen=True)
class FamilyResult:
    """Test results of a family of contrasts.

    Attributes:
        p_values: Family-wise p-value of each contrast.
        strengths: Each difference over its standard deviation under permutation.
        detectable: Mean difference of each contrast that is significant with a power of 90 %.
    """

    p_values: tuple[float, ...]
    strengths: tuple[float, ...]
    detectable: tuple[float, ...]


def compare(
    contrasts: Sequence[Contrast], holds: np.ndarray, images: np.ndarray, level: float, seed: int = 0
) -> FamilyResult:
    """Test all contrasts with the same permutations of the donors' classes (max-T: Westfall and Young, 1993).

    Donors from one image are not independent: those that hold the same classes are one unit, and whole images are
    permuted, then the units within each.

    Args:
        contrasts: With the same donors.
        holds: Boolean (D, K): donor holds class.
        images: Index of each donor's image (D,).
        level: Significance level for `detectable`.
        seed: Seed of the permutations.
    """
    both, index = np.unique(np.column_stack([images, holds]), axis=0, return_inverse=True)
    index = index.ravel()
    scores = np.stack([_unit_means(c.values, index, len(both)) for c in contrasts])
    own = both[:, 1:].astype(bool)
    generator = np.random.default_rng(seed)
    shuffled = np.concatenate([own[None], own[_orders(both[:, 0], generator)]])
    found = np.stack([_difference(c, s, shuffled) for c, s in zip(contrasts, scores, strict=True)])
    spread = found[:, 1:].std(1)
    standard = np.divide(found, spread[:, None], out=np.zeros_like(found), where=spread[:, None] > 1e-9)
    largest = standard[:, 1:].max(0)
    above = (largest[None] >= standard[:, :1] - 1e-9).sum(1)
    return FamilyResult(
        tuple(((1 + above) / (1 + PERMUTATIONS)).tolist()),
        tuple(standard[:, 0].tolist()),
        tuple(((np.quantile(largest, 1 - level) + POWER) * spread).tolist()),
    )


def _orders(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return permutations of units by image (PERMUTATIONS, U): the unit that each takes its classes from.

    Each image takes those of one image, in any order; if that has fewer units, some are repeated.
    """
    _, image, counts = np.unique(images, return_inverse=True, return_counts=True)
    image = image.ravel()
    slot = np.arange(len(image)) - (np.cumsum(counts) - counts)[image]  # units are sorted by image
    table = np.zeros((len(counts), counts.max()), int)
    table[image, slot] = np.arange(len(image))
    taken = generator.permuted(np.tile(np.arange(len(counts)), (PERMUTATIONS, 1)), axis=1)[:, image]
    keys = generator.random((PERMUTATIONS, *table.shape))
    keys[:, np.arange(counts.max()) >= counts[:, None]] = 2  # padding sorts last
    within = keys.argsort(2)
    draws = np.arange(PERMUTATIONS)[:, None]
    return np.asarray(table[taken, within[draws, taken, slot % counts[taken]]])


def min_p_value(first: int, second: int) -> float:
    """Return the smallest p-value that permuting two groups of these sizes can give."""
    ways = 1.0
    for k in range(min(first, second)):
        ways *= (first + second - k) / (k + 1)
    return 1 / ways


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple testing (Holm, 1979)."""
    order, corrected, worst = np.argsort(p_values, kind="stable"), [1.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, p_values[at] * (len(p_values) - rank)))
        corrected[at] = worst
    return corrected


def _unit_means(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Return each unit's mean outcome relative to its recipients' average (U,); NaN where not tried."""
    excess = values - _mean(values, 1)[:, None]
    tried = ~np.isnan(excess)
    sums = np.bincount(index, np.where(tried, excess, 0).sum(0), count)
    numbers = np.bincount(index, tried.sum(0), count)
    made: np.ndarray = np.divide(sums, numbers, out=np.full(count, np.nan), where=numbers > 0)
    return made


def _difference(contrast: Contrast, scores: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """Return the difference of means (P,) for each permutation of the held classes (P, U, K)."""
    tried = ~np.isnan(scores)
    filled = np.where(tried, scores, 0)
    means = []
    for donor_masks in contrast.donor_masks(holds):
        number = (donor_masks & tried).sum(1)
        means.append(np.divide(donor_masks @ filled, number, out=np.zeros(len(holds)), where=number > 0))
    made: np.ndarray = means[1] - means[0]
    return made


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    tried = ~np.isnan(values)
    number = tried.sum(axis)
    sums = np.where(tried, values, 0).sum(axis)
    made: np.ndarray = np.divide(sums, number, out=np.full(number.shape, np.nan), where=number > 0)
    return made
