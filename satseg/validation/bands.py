"""Bands that give the label away, or that hold categories among measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satseg.validation.facts import Facts
from satseg.validation.findings import Finding, Severity

BINS = 256  # by quantiles; of bands with fewer values each value is one
FEWEST = 50  # pixels of a class, of those drawn, for a score that means something
CATEGORIES = 32  # a band with more different values is a measurement
CODES = 10_000  # how far the numbers of categories may lie apart
MEASURED = 4 * CATEGORIES  # values that other bands must have, so that few are remarkable
FLAT = 0.6  # share of pixels that equal their left neighbour: categories lie in areas
FEW = 5  # values that are no measurement, however they change
STEPPING = (
    0.5  # share of changes by 1 from which more values may be a faint measurement, as of Sentinel-2's cirrus band
)
BUMP = 0.15  # of the highest count: how far a faint measurement may be off one hill


@dataclass(frozen=True)
class BandFacts:
    """One band over all images.

    Attributes:
        name: As in the file.
        low: Lowest usable number.
        high: Highest.
        distinct: Different values among the pixels drawn.
        flat: Share of pixels that equal their left neighbour.
        stepping: Of those that do not, the share that differ by 1.
        score: Balanced accuracy of telling the classes by this band alone, on images that the rule was not made
            from; NaN where it cannot be measured.
        counts: How often each whole number was drawn, from the lowest to the highest; empty where these are more
            than CODES apart, or not all are whole.
    """

    name: str
    low: float
    high: float
    distinct: int
    flat: float
    stepping: float
    score: float
    counts: tuple[int, ...]


def measure_bands(facts: Sequence[Facts], names: Sequence[str], num_classes: int) -> list[BandFacts]:
    """Measure every band over all images that have as many bands.

    Args:
        facts: Of all samples.
        names: Of the bands.
        num_classes: K.
    """
    images = [f.image for f in facts if f.image and f.image.usable and len(f.image.minimum) == len(names)]
    if not images:
        return []
    drawn = np.concatenate([i.drawn for i in images], axis=1)
    classes = np.concatenate([i.classes for i in images])
    sides = [np.full(len(i.classes), number % 2 == 0) for number, i in enumerate(images)]
    learn = np.concatenate(sides) if len(images) > 1 else np.arange(len(classes)) % 2 == 0
    low, high = np.min([i.minimum for i in images], axis=0), np.max([i.maximum for i in images], axis=0)
    flat, stepping = (np.mean(shares, axis=0) for shares in ([i.flat for i in images], [i.stepping for i in images]))
    return [
        BandFacts(
            name=name,
            low=float(low[band]),
            high=float(high[band]),
            distinct=len(np.unique(drawn[band])),
            flat=float(flat[band]),
            stepping=float(stepping[band]),
            score=alone(drawn[band], classes, learn, num_classes),
            counts=_counts(drawn[band]),
        )
        for band, name in enumerate(names)
    ]


def _counts(values: np.ndarray) -> tuple[int, ...]:
    if not values.size or values.max() - values.min() > CODES or (values != np.rint(values)).any():
        return ()
    return tuple(np.bincount((values - values.min()).astype(np.int64)).tolist())


def alone(values: np.ndarray, classes: np.ndarray, learn: np.ndarray, num_classes: int) -> float:
    """Return how well one band alone tells the classes.

    Each bin of values stands for the class that it is most typical of; the rule is made from some pixels and scored
    on the others.

    Args:
        values: Numbers (n,).
        classes: Class indices (n,); those beyond K are of no class.
        learn: Boolean (n,): which pixels the rule is made from.
        num_classes: K.

    Returns:
        Balanced accuracy: the mean over classes of the share of its pixels that is told right; NaN where fewer than
        two classes can be scored.
    """
    labelled = classes < num_classes
    values, classes, learn = values[labelled], classes[labelled], learn[labelled]
    counts = np.stack([np.bincount(classes[side], minlength=256)[:num_classes] for side in (learn, ~learn)])
    scored = np.flatnonzero((counts >= FEWEST).all(0))
    if len(scored) < 2:
        return float("nan")
    bins = np.searchsorted(_borders(values[learn]), values)
    table = np.zeros((bins.max() + 1, num_classes))
    np.add.at(table, (bins[learn], classes[learn]), 1)
    typical = scored[(table[:, scored] / counts[0, scored]).argmax(1)]
    right = typical[bins[~learn]] == classes[~learn]
    return float(np.mean([right[classes[~learn] == index].mean() for index in scored]))


def _borders(values: np.ndarray) -> np.ndarray:
    distinct = np.unique(values).astype(np.float64)  # sums of two would not fit the files' integers
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    borders: np.ndarray = (distinct[1:] + distinct[:-1]) / 2 if len(distinct) <= BINS else distinct[1:-1]
    return borders


def check_bands(bands: Sequence[BandFacts], threshold: float) -> list[Finding]:
    """Find bands that predict the mask nearly alone, and categorical ones.

    Args:
        bands: What was measured.
        threshold: Balanced accuracy from which a band gives the label away.
    """
    giving = [b for b in bands if b.score >= threshold]
    expected = f"No band tells all classes alone; strong ones such as NDVI stay below {threshold:g} (giveaway)."
    findings = [
        Finding(
            "giveaway_band",
            Severity.ERROR,
            f"band {b.name} gives the label away: alone it tells the classes with a balanced accuracy of {b.score:.3f} "
            f"(threshold {threshold:g})",
            expected,
            "Leave it out of dataset.bands: where a model is used, no label is known.",
        )
        for b in giving
    ]
    return findings + [
        Finding(
            "categorical_band",
            Severity.WARNING,
            f"band {b.name} is categorical: {b.distinct} whole numbers from {b.low:g} to {b.high:g} in areas, where "
            "other bands measure",
            "Bands measure: a land-cover product or a quality mask is no reflectance.",
            "Leave it out of dataset.bands, or give it as dataset.nodata or as a mask band if it tells quality.",
        )
        for b in bands
        if b not in giving and _is_categorical(b, bands)
    ]


def _is_categorical(band: BandFacts, bands: Sequence[BandFacts]) -> bool:
    others = [b.distinct for b in bands if b is not band]
    if not others or np.median(others) < MEASURED or not band.counts or not 2 <= band.distinct <= CATEGORIES:
        return False
    return band.flat >= FLAT and (band.distinct <= FEW or not _is_faint(band))


def _is_faint(band: BandFacts) -> bool:
    """Tell whether few values are one hill without gaps, and change step by step: a measurement of a narrow range."""
    counts = np.array(band.counts)
    peak, bump = int(counts.argmax()), BUMP * counts.max()
    is_hill = (np.diff(counts[: peak + 1]) >= -bump).all() and (np.diff(counts[peak:]) <= bump).all()
    return bool(counts.all() and is_hill and band.stepping >= STEPPING)
