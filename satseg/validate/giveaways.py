"""How well a single band tells the classes: all of them, one from the rest, and along borders, where it counts.

A strong measurement, such as near infrared for water, may tell a class as well as the label does, where labels lie amid
lakes. Along the borders of a class it does not: pixels are mixed there, and nobody draws these exactly. What was made
from the labels knows their very borders, with noise and at any scale; where it was blurred, numbers still rise or fall
across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import Borders

BINS = 256  # by quantiles; of bands with fewer values each value is one
FEWEST = 50  # pixels of a class, of those drawn, for a score that means something
CHANCE = 0.05  # of naming any band of a dataset by luck, over all classes and bands
# Measured by scripts/benchmarks/band_scores.py: measurements and indices of real data tell a class from the rest with
# up to 1.000 (water by near infrared, where only polygons amid it are labelled), but from its neighbours across the
# border with up to 0.67; those of the embedded data, whose labels fit to the pixel, with 0.99 and 0.92. Bands that are
# made from a label tell it from its neighbours with 0.986 and more.
BORDER = 0.03  # by how much less than everywhere a label tells a class along its borders
# Of strong bands numbers rise, or fall, across a border in up to 0.80 of the pairs, and all in the embedded data; of
# blurred labels in 0.92 and more. As that alone proves less, it counts only from nearer to 1 than the threshold.
ORDER = 0.9
NEARER = 0.5  # of what the threshold leaves to 1


@dataclass(frozen=True)
class ClassScore:
    """How well a band tells one class from all others, on images that the rule was not made from.

    Attributes:
        index: Of the class.
        score: Balanced accuracy.
        surely: What it is at least, as far as the number of pixels tells; lower for rare classes.
        border: Balanced accuracy of pixels that are neighbours across the class's border; NaN where too few are.
        order: Share of these neighbours whose numbers differ in the same direction; NaN where too few are.
    """

    index: int
    score: float
    surely: float
    border: float = float("nan")
    order: float = float("nan")

    def gives_away(self, threshold: float) -> bool:
        """Tell whether the band was made from the label, as its score along borders says.

        Args:
            threshold: Balanced accuracy from which it may be.
        """
        if self.score < threshold:
            return False
        is_nearer = self.surely >= threshold and 1 - self.score <= NEARER * (1 - threshold)
        return self.border >= threshold - BORDER or (is_nearer and self.order >= ORDER)


def tabulate(values: np.ndarray, classes: np.ndarray, learn: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each class by bins of a band's values.

    Args:
        values: Numbers (n,).
        classes: Class indices (n,); those beyond K are of no class.
        learn: Boolean (n,): which pixels a rule is made from; these set the bins, too.
        num_classes: K.

    Returns:
        Counts (2, bins, K): of the pixels that a rule is made from, and of those that it is scored on.
    """
    labelled = classes < num_classes
    values, classes, learn = values[labelled], classes[labelled], learn[labelled]
    if not learn.any():
        return np.zeros((2, 1, num_classes), np.int64)
    bins = np.searchsorted(_borders(values[learn]), values)
    number = int(bins.max()) + 1
    keys = (bins * num_classes + classes, number * num_classes)
    counts = [np.bincount(keys[0][side], minlength=keys[1]) for side in (learn, ~learn)]
    return np.stack(counts).reshape(2, number, num_classes)


def _borders(values: np.ndarray) -> np.ndarray:
    distinct = np.unique(values).astype(np.float64)  # sums of two would not fit the files' integers
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    borders: np.ndarray = (distinct[1:] + distinct[:-1]) / 2 if len(distinct) <= BINS else distinct[1:-1]
    return borders


def score_all(counts: np.ndarray) -> float:
    """Return how well a band tells all classes: each bin stands for the class that it is most typical of.

    Args:
        counts: As `tabulate` returns them.

    Returns:
        Balanced accuracy: the mean over classes of the share of its pixels that is told right; NaN where fewer than
        two classes can be scored.
    """
    made, held = counts
    scored = np.flatnonzero((counts.sum(1) >= FEWEST).all(0))
    if len(scored) < 2:
        return float("nan")
    typical = scored[(made[:, scored] / made[:, scored].sum(0)).argmax(1)]
    right = [held[typical == index, index].sum() / held[:, index].sum() for index in scored]
    return float(np.mean(right))


def score_each(counts: np.ndarray, tests: int) -> list[ClassScore]:
    """Return how well a band tells each class from the rest, for those with enough pixels.

    Args:
        counts: As `tabulate` returns them.
        tests: Scores that are looked at in all: the more, the less is sure.
    """
    if np.isnan(score_all(counts)):
        return []
    made, held = counts
    rest = made.sum(1, keepdims=True) - made
    is_told = made / np.maximum(made.sum(0), 1) > rest / np.maximum(rest.sum(0), 1)
    held_rest = held.sum(1, keepdims=True) - held
    totals = np.stack([held.sum(0), held_rest.sum(0)])
    hits = np.stack([np.where(is_told, held, 0).sum(0), np.where(is_told, 0, held_rest).sum(0)])
    with np.errstate(invalid="ignore"):
        scores = (hits / totals).mean(0)
        surely = np.nan_to_num(beta.ppf(CHANCE / (2 * tests), hits, totals - hits + 1)).mean(0)  # Clopper and Pearson
    is_scored = (np.stack([made.sum(0), rest.sum(0), *totals]) >= FEWEST).all(0)
    return [ClassScore(int(i), float(scores[i]), float(surely[i])) for i in np.flatnonzero(is_scored)]


def score_border(index: int, borders: Sequence[Borders], band: int) -> tuple[float, float]:
    """Return how well a band tells a class along its borders.

    Args:
        index: Of the class.
        borders: Of the images, which take turns in making the rule and being scored.
        band: Index of the band.

    Returns:
        The balanced accuracy of telling pixels of the class from their neighbours, and the share of pairs whose numbers
        differ in the direction that most do; NaN where too few can be had. Neighbours without a label count only where
        hardly any has one, as around polygons.
    """
    inside, outside, labelled, learn = (np.concatenate(parts) for parts in zip(*_pairs(index, borders, band)))
    if min(np.count_nonzero(labelled & learn), np.count_nonzero(labelled & ~learn)) >= FEWEST:
        inside, outside, learn = inside[labelled], outside[labelled], learn[labelled]
    if min(np.count_nonzero(learn), np.count_nonzero(~learn)) < FEWEST:
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
