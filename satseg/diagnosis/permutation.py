"""Whether donors of one class change predictions otherwise than donors of another: a permutation test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 4000
POWER = 1.28  # standard deviations beyond what is significant: a mean that is found nine times in ten


@dataclass(frozen=True, eq=False)
class Contrast:
    """A difference that would be zero if it did not matter of which class a donor is.

    Attributes:
        values: Outcome by recipient and donor (R, D); NaN where it was not tried.
        less: Class that donors hold who should give the lower outcome; None for all that do not hold `more`.
        more: Class that donors hold who should give the higher outcome; None for all that do not hold `less`.
    """

    values: np.ndarray
    less: int | None
    more: int | None

    def chosen(self, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which donors give the lower and which the higher outcome; who holds both classes is neither.

        Args:
            holds: Whether each donor holds each class (..., K).

        Returns:
            Boolean (...), twice.
        """
        if self.less is None or self.more is None:
            one = holds[..., self.more if self.less is None else self.less]
            return (~one, one) if self.less is None else (one, ~one)
        less, more = holds[..., self.less], holds[..., self.more]
        return less & ~more, more & ~less

    def effects(self, holds: np.ndarray) -> np.ndarray:
        """Return, by recipient, the higher donors' mean outcome less the lower ones' (R,); NaN without either."""
        low, high = self.chosen(holds)
        made: np.ndarray = _mean(self.values[:, high], 1) - _mean(self.values[:, low], 1)
        return made


@dataclass(frozen=True)
class Verdicts:
    """What came of a family of contrasts.

    Attributes:
        probabilities: Of a difference as large in any of the family by chance, for each contrast.
        strengths: Each difference over its standard deviation under permutation.
        detectable: The mean difference by donor that would have been significant nine times in ten, for each contrast.
    """

    probabilities: tuple[float, ...]
    strengths: tuple[float, ...]
    detectable: tuple[float, ...]


def compare(
    contrasts: Sequence[Contrast], holds: np.ndarray, images: np.ndarray, level: float, seed: int = 0
) -> Verdicts:
    """Permute what donors hold, all contrasts by the same permutations (max-T: Westfall and Young, 1993).

    What lies in one image is not independent: the donors of one image that hold the same are one unit, and images are
    permuted as wholes, then the units within each.

    Args:
        contrasts: With the same donors.
        holds: Whether each donor holds each class (D, K).
        images: Number of each donor's image (D,).
        level: Significance that `detectable` is about.
        seed: Of the permutations.
    """
    both, index = np.unique(np.column_stack([images, holds]), axis=0, return_inverse=True)
    index = index.ravel()
    scores = np.stack([_by_unit(c.values, index, len(both)) for c in contrasts])
    own = both[:, 1:].astype(bool)
    generator = np.random.default_rng(seed)
    shuffled = np.concatenate([own[None], own[_orders(both[:, 0], generator)]])
    found = np.stack([_difference(c, s, shuffled) for c, s in zip(contrasts, scores, strict=True)])
    spread = found[:, 1:].std(1)
    standard = np.divide(found, spread[:, None], out=np.zeros_like(found), where=spread[:, None] > 1e-9)
    largest = standard[:, 1:].max(0)
    above = (largest[None] >= standard[:, :1] - 1e-9).sum(1)
    return Verdicts(
        tuple(((1 + above) / (1 + PERMUTATIONS)).tolist()),
        tuple(standard[:, 0].tolist()),
        tuple(((np.quantile(largest, 1 - level) + POWER) * spread).tolist()),
    )


def _orders(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return permutations of units by image (PERMUTATIONS, U), as which unit each gets its classes from.

    Each image gets those of one image, in any order; where that has fewer units, some of them again.
    """
    _, image, counts = np.unique(images, return_inverse=True, return_counts=True)
    image = image.ravel()
    slot = np.arange(len(image)) - (np.cumsum(counts) - counts)[image]  # units are sorted by image
    table = np.zeros((len(counts), counts.max()), int)
    table[image, slot] = np.arange(len(image))
    taken = generator.permuted(np.tile(np.arange(len(counts)), (PERMUTATIONS, 1)), axis=1)[:, image]
    keys = generator.random((PERMUTATIONS, *table.shape))
    keys[:, np.arange(counts.max()) >= counts[:, None]] = 2  # no unit: comes last
    within = keys.argsort(2)
    draws = np.arange(PERMUTATIONS)[:, None]
    return np.asarray(table[taken, within[draws, taken, slot % counts[taken]]])


def attainable(first: int, second: int) -> float:
    """Return the smallest probability that permuting so many units of two labels can give."""
    ways = 1.0
    for k in range(min(first, second)):
        ways *= (first + second - k) / (k + 1)
    return 1 / ways


def holm(probabilities: Sequence[float]) -> list[float]:
    """Return probabilities that are corrected for being several (Holm, 1979)."""
    order, corrected, worst = np.argsort(probabilities, kind="stable"), [1.0] * len(probabilities), 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, probabilities[at] * (len(probabilities) - rank)))
        corrected[at] = worst
    return corrected


def _by_unit(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Return each unit's mean outcome beyond what its recipients have on average (U,); NaN where it was not tried."""
    beyond = values - _mean(values, 1)[:, None]
    tried = ~np.isnan(beyond)
    sums = np.bincount(index, np.where(tried, beyond, 0).sum(0), count)
    numbers = np.bincount(index, tried.sum(0), count)
    made: np.ndarray = np.divide(sums, numbers, out=np.full(count, np.nan), where=numbers > 0)
    return made


def _difference(contrast: Contrast, scores: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """Return the difference of the means for each permutation of what is held (P, U, K) -> (P,)."""
    tried = ~np.isnan(scores)
    filled = np.where(tried, scores, 0)
    means = []
    for chosen in contrast.chosen(holds):
        number = (chosen & tried).sum(1)
        means.append(np.divide(chosen @ filled, number, out=np.zeros(len(holds)), where=number > 0))
    made: np.ndarray = means[1] - means[0]
    return made


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    tried = ~np.isnan(values)
    number = tried.sum(axis)
    sums = np.where(tried, values, 0).sum(axis)
    made: np.ndarray = np.divide(sums, number, out=np.full(number.shape, np.nan), where=number > 0)
    return made
