"""Separation of the classes by a single band: of all classes, of one from the rest, and along borders.

A strong measurement, such as near infrared for water, may separate a class as well as the label does if labels lie in
the middle of lakes. Along class borders it does not: pixels are mixed there, and labels are not drawn exactly. A band
derived from the labels follows their exact borders, with noise and at any scale; if it was blurred, its values still
rise or fall across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import Borders

BINS = 256  # quantile bins; one bin per value for bands with fewer values
MIN_PIXELS = 50  # sampled pixels of a class for a meaningful score
FALSE_ALARM = 0.05  # probability of reporting any band of a dataset by chance, over all classes and bands
# Measured by scripts/benchmarks/band_scores.py: measurements and indices of real data separate a class from the rest
# with up to 1.000 (water by near infrared, where only polygons inside it are labelled), but from its neighbours across
# the border with up to 0.67; those of the embedded data, whose labels are exact to the pixel, with 0.99 and 0.92. Bands
# derived from a label separate it from its neighbours with 0.986 and more.
BORDER_TOLERANCE = 0.03  # by which the score of a label may be lower along borders
# Values of strong bands rise (or fall) across a border in up to 0.80 of the pairs, and in all in the embedded data;
# those of blurred labels in 0.92 and more. As that proves less on its own, the score must be closer to 1 than the
# threshold.
MIN_ORDER = 0.9
STRICTER = 0.5  # of the distance between the threshold and 1


@dataclass(frozen=True)
class ClassScore:
    """Score of a band in separating one class from all others, on held-out images.

    Attributes:
        index: Index of the class.
        score: Balanced accuracy.
        surely: Lower confidence bound of the score; lower for rare classes.
        border: Balanced accuracy on neighbours across the class's border; NaN if there are too few.
        order: Share of these neighbours whose values differ in the same direction; NaN if there are too few.
    """

    index: int
    score: float
    surely: float
    border: float = float("nan")
    order: float = float("nan")

    def gives_away(self, threshold: float) -> bool:
        """Return whether the band seems derived from the label, by its scores along borders.

        Args:
            threshold: Balanced accuracy above which it may be.
        """
        if self.score < threshold:
            return False
        is_nearer = self.surely >= threshold and 1 - self.score <= STRICTER * (1 - threshold)
        return self.border >= threshold - BORDER_TOLERANCE or (is_nearer and self.order >= MIN_ORDER)


def tabulate(values: np.ndarray, classes: np.ndarray, learn: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each class by bins of a band's values.

    Args:
        values: Values (n,).
        classes: Class indices (n,); those of K and above are no class.
        learn: Boolean (n,): pixels to fit the rule on, which also set the bins.
        num_classes: K.

    Returns:
        Counts (2, bins, K): of the pixels to fit the rule on, and of those to score it on.
    """
    labelled = classes < num_classes
    values, classes, learn = values[labelled], classes[labelled], learn[labelled]
    if not learn.any():
        return np.zeros((2, 1, num_classes), np.int64)
    bins = np.searchsorted(_bin_edges(values[learn]), values)
    number = int(bins.max()) + 1
    keys = (bins * num_classes + classes, number * num_classes)
    counts = [np.bincount(keys[0][side], minlength=keys[1]) for side in (learn, ~learn)]
    return np.stack(counts).reshape(2, number, num_classes)


def _bin_edges(values: np.ndarray) -> np.ndarray:
    distinct = np.unique(values).astype(np.float64)  # sums of two could overflow the files' integers
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    borders: np.ndarray = (distinct[1:] + distinct[:-1]) / 2 if len(distinct) <= BINS else distinct[1:-1]
    return borders


def score_all(counts: np.ndarray) -> float:
    """Return the score of a band for all classes: each bin predicts its most typical class.

    Args:
        counts: As `tabulate` returns them.

    Returns:
        Balanced accuracy: the mean recall over classes; NaN if fewer than two classes can be scored.
    """
    made, held = counts
    scored = np.flatnonzero((counts.sum(1) >= MIN_PIXELS).all(0))
    if len(scored) < 2:
        return float("nan")
    typical = scored[(made[:, scored] / made[:, scored].sum(0)).argmax(1)]
    right = [held[typical == index, index].sum() / held[:, index].sum() for index in scored]
    return float(np.mean(right))


def score_each(counts: np.ndarray, tests: int) -> list[ClassScore]:
    """Return the score of a band for each class against the rest, for classes with enough pixels.

    Args:
        counts: As `tabulate` returns them.
        tests: Total number of scores, for which the confidence bounds are corrected.
    """
    if np.isnan(score_all(counts)):
        return []
    made, held = counts
    rest = made.sum(1, keepdims=True) - made
    is_predicted = made / np.maximum(made.sum(0), 1) > rest / np.maximum(rest.sum(0), 1)
    held_rest = held.sum(1, keepdims=True) - held
    totals = np.stack([held.sum(0), held_rest.sum(0)])
    hits = np.stack([np.where(is_predicted, held, 0).sum(0), np.where(is_predicted, 0, held_rest).sum(0)])
    with np.errstate(invalid="ignore"):
        scores = (hits / totals).mean(0)
        surely = np.nan_to_num(beta.ppf(FALSE_ALARM / (2 * tests), hits, totals - hits + 1)).mean(
            0
        )  # Clopper and Pearson
    is_scored = (np.stack([made.sum(0), rest.sum(0), *totals]) >= MIN_PIXELS).all(0)
    return [ClassScore(int(i), float(scores[i]), float(surely[i])) for i in np.flatnonzero(is_scored)]


def score_border(index: int, borders: Sequence[Borders], band: int) -> tuple[float, float]:
    """Return the score of a band for a class along its borders.

    Args:
        index: Index of the class.
        borders: Borders of the images, which alternate between fitting and scoring.
        band: Index of the band.

    Returns:
        The balanced accuracy of separating pixels of the class from their neighbours, and the share of pairs whose
        values differ in the majority's direction; NaN if there are too few. Unlabelled neighbours count only if hardly
        any neighbour is labelled, as around polygons.
    """
    inside, outside, labelled, learn = (np.concatenate(parts) for parts in zip(*_pairs(index, borders, band)))
    if min(np.count_nonzero(labelled & learn), np.count_nonzero(labelled & ~learn)) >= MIN_PIXELS:
        inside, outside, learn = inside[labelled], outside[labelled], learn[labelled]
    if min(np.count_nonzero(learn), np.count_nonzero(~learn)) < MIN_PIXELS:
        return float("nan"), float("nan")
    classes = np.repeat([0, 1], len(inside))
    score = score_all(tabulate(np.concatenate([inside, outside]), classes, np.tile(learn, 2), 2))
    steps = np.sign(inside.astype(np.float64) - outside)
    way = 1 if steps[learn].sum() >= 0 else -1
    return score, float((1 + way * steps[~learn].mean()) / 2)


def _pairs(index: int, borders: Sequence[Borders], band: int) -> list[tuple[np.ndarray, ...]]:
    found: list[tuple[np.ndarray, ...]] = []
    for number, (numbers, classes) in enumerate(borders):
        is_class = classes == index
        pairs = np.flatnonzero(is_class[0] != is_class[1])
        within = is_class[1, pairs].astype(int)
        labelled = classes[1 - within, pairs] != IGNORE_INDEX
        side = np.full(len(pairs), number % 2 == 0) if len(borders) > 1 else np.arange(len(pairs)) % 2 == 0
        found.append((numbers[band, within, pairs], numbers[band, 1 - within, pairs], labelled, side))
    return found
