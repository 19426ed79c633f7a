"""Bands that give the label away, or that hold categories among measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satseg.validation.facts import Facts, ImageFacts
from satseg.validation.findings import Finding, Severity

BINS = 256  # by quantiles; of bands with fewer values each value is one
FEWEST = 50  # pixels of a class, of those drawn, for a score that means something
CATEGORIES = 64  # a band with more different values is a measurement; CORINE's land cover has 44
SURE = 32  # whole numbers in areas that are categories even where neighbouring areas are alike
CODES = 10_000  # how far the numbers of categories may lie apart
MEASURED = 128  # values that other bands must have, so that few are remarkable
FLAT = 0.6  # share of pixels that equal their left neighbour: categories lie in areas
FEW = 5  # values that are no measurement, however they change
STEPPING = (
    0.5  # share of changes by 1 from which more values may be a faint measurement, as of Sentinel-2's cirrus band
)
SMALL = 1.7  # steps that neighbours differ by on average, the same of numbers that are not whole
UNLIKE = 0.5  # of the mean difference of any two values: neighbours that differ as much are mere names
ROUNDED = 0.05  # of a step: how far numbers that are not whole may be off
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
        unlike: How much neighbours that differ do so, as a share of the mean difference of any two different values;
            about 1 where the numbers are mere names, and 0 where the band has too many values.
        score: Balanced accuracy of telling the classes by this band alone, on images that the rule was not made
            from; NaN where it cannot be measured.
        step: What all differences of its values are multiples of: 1 for whole numbers, else the smallest one; 0 where
            there is no such step or more than CODES of them.
        counts: How often each value was drawn, step by step from the lowest to the highest; empty where step is 0.
        change: Mean difference of neighbours that differ.
    """

    name: str
    low: float
    high: float
    distinct: int
    flat: float
    stepping: float
    unlike: float
    score: float
    step: float
    counts: tuple[int, ...]
    change: float


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
    change = _mean_change(images)
    return [
        BandFacts(
            name=name,
            low=float(low[band]),
            high=float(high[band]),
            distinct=len(np.unique(drawn[band])),
            flat=float(flat[band]),
            stepping=float(stepping[band]),
            unlike=_unlike(drawn[band], float(change[band])),
            score=alone(drawn[band], classes, learn, num_classes),
            step=_step(drawn[band]),
            counts=_counts(drawn[band], _step(drawn[band])),
            change=float(change[band]),
        )
        for band, name in enumerate(names)
    ]


def _mean_change(images: Sequence[ImageFacts]) -> np.ndarray:
    """Return the mean difference of neighbours that differ, by band, over images in which as many do so."""
    weights = 1 - np.array([i.flat for i in images])
    total: np.ndarray = (weights * [i.change for i in images]).sum(0) / np.maximum(weights.sum(0), 1e-9)
    return total


def _unlike(values: np.ndarray, change: float) -> float:
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if not 2 <= len(distinct) <= CATEGORIES:
        return 0.0
    shares = counts / counts.sum()
    apart = shares @ np.abs(distinct[:, None] - distinct) @ shares
    return float(change * (1 - shares @ shares) / apart)


def _step(values: np.ndarray) -> float:
    distinct = np.unique(values).astype(np.float64)  # differences would not fit the files' integers
    if not 2 <= len(distinct) <= CODES:
        return 0.0
    is_whole = (distinct == np.rint(distinct)).all()
    step = 1.0 if is_whole else float(np.diff(distinct).min())
    steps = (distinct - distinct[0]) / step
    return step if steps[-1] <= CODES and np.allclose(steps, np.rint(steps), atol=ROUNDED) else 0.0


def _counts(values: np.ndarray, step: float) -> tuple[int, ...]:
    if not step:
        return ()
    values = values.astype(np.float64)
    return tuple(np.bincount(np.rint((values - values.min()) / step).astype(np.int64)).tolist())


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
            f"band {b.name} is categorical: {b.distinct} {_kind(b)} from {b.low:g} to {b.high:g} in areas, where "
            "other bands measure",
            "Bands measure: a land-cover product or a quality mask is no reflectance.",
            "Leave it out of dataset.bands, or give it as dataset.nodata or as a mask band if it tells quality.",
        )
        for b in bands
        if b not in giving and _is_categorical(b, bands)
    ]


def _is_categorical(band: BandFacts, bands: Sequence[BandFacts]) -> bool:
    others = [b.distinct for b in bands if b is not band]
    if not others or np.median(others) < MEASURED or band.flat < FLAT or not 2 <= band.distinct <= CATEGORIES:
        return False
    if band.step == 1 and band.distinct <= SURE:
        return band.distinct <= FEW or not _is_faint(band)
    return band.unlike >= UNLIKE and (band.distinct <= FEW or not band.step or not _is_faint(band))


def _kind(band: BandFacts) -> str:
    return "whole numbers" if band.step == 1 else "different numbers"


def _is_faint(band: BandFacts) -> bool:
    """Tell whether few values are one hill without gaps, and change step by step: a measurement of a narrow range."""
    counts = np.array(band.counts)
    peak, bump = int(counts.argmax()), BUMP * counts.max()
    is_hill = (np.diff(counts[: peak + 1]) >= -bump).all() and (np.diff(counts[peak:]) <= bump).all()
    is_gradual = band.stepping >= STEPPING if band.step == 1 else band.change <= SMALL * band.step
    return bool(counts.all() and is_hill and is_gradual)
