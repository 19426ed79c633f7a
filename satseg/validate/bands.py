"""Bands that give the label away, or that hold categories among measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from satseg.data.labels.class_options import option
from satseg.validate.facts import Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, some
from satseg.validate.giveaways import ClassScore, score_all, score_border, score_each, tabulate

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
        strong: Scores of the classes that it tells from all others as well as a band that gives them away.
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
    strong: tuple[ClassScore, ...]
    step: float
    counts: tuple[int, ...]
    change: float


def measure_bands(facts: Sequence[Facts], names: Sequence[str], num_classes: int, threshold: float) -> list[BandFacts]:
    """Measure every band over all images that have as many bands.

    Args:
        facts: Of all samples.
        names: Of the bands.
        num_classes: K.
        threshold: Balanced accuracy from which a band may give a class away.
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
    tests = len(names) * num_classes
    counts = [tabulate(drawn[band], classes, learn, num_classes) for band in range(len(names))]
    return [
        BandFacts(
            name=name,
            low=float(low[band]),
            high=float(high[band]),
            distinct=len(np.unique(drawn[band])),
            flat=float(flat[band]),
            stepping=float(stepping[band]),
            unlike=_unlike(drawn[band], float(change[band])),
            score=score_all(counts[band]),
            strong=_strong(score_each(counts[band], tests), images, band, threshold),
            step=_step(drawn[band]),
            counts=_counts(drawn[band], _step(drawn[band])),
            change=float(change[band]),
        )
        for band, name in enumerate(names)
    ]


def _strong(
    scores: Sequence[ClassScore], images: Sequence[ImageFacts], band: int, threshold: float
) -> tuple[ClassScore, ...]:
    """Return the scores from a threshold on, with those along borders."""
    strong = [score for score in scores if score.score >= threshold]
    measured = [score_border(score.index, [i.borders for i in images], band) for score in strong]
    return tuple(replace(s, border=border, order=order) for s, (border, order) in zip(strong, measured, strict=True))


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


def check_bands(
    bands: Sequence[BandFacts], threshold: float, class_names: Sequence[str], called: Sequence[int | str]
) -> list[Finding]:
    """Find bands that predict the mask, or one of its classes, nearly alone; and categorical ones.

    Args:
        bands: What was measured.
        threshold: Balanced accuracy from which a band gives the label away.
        class_names: K names.
        called: What dataset.bands calls each band.
    """
    giving = {b.name: _given_away(b, threshold, class_names) for b in bands}
    categorical = [b.name for b in bands if not giving[b.name] and _is_categorical(b, bands)]
    known = [bool(giving[b.name]) for b in bands]
    odd = [bool(giving[b.name]) or b.name in categorical for b in bands]
    expected = (
        f"No band tells all classes alone, or one of them along its borders, too; measurements such as NDVI stay below "
        f"{threshold:g} there (giveaway)."
    )
    findings = [
        Finding(
            "giveaway_band",
            Severity.ERROR,
            f"band {name} gives {words} (threshold {threshold:g})",
            expected,
            f"Where a model is used, no label is known: {leave_out(called, known)}.",
        )
        for name, words in giving.items()
        if words
    ]
    return [*findings, *_strong_bands([b for b in bands if not giving[b.name]], class_names)] + [
        Finding(
            "categorical_band",
            Severity.WARNING,
            f"band {b.name} is categorical: {b.distinct} {_kind(b)} from {b.low:g} to {b.high:g} in areas, where "
            "other bands measure",
            "Bands measure: a land-cover product or a quality mask is no reflectance.",
            f"If it tells quality, make nodata of what it calls bad in the files; {leave_out(called, odd)}.",
        )
        for b in bands
        if b.name in categorical
    ]


def leave_out(called: Sequence[int | str], is_left: Sequence[bool]) -> str:
    """Return in words the option that reads all bands but some.

    Args:
        called: What dataset.bands calls each band that is read.
        is_left: Which of them are left out.
    """
    kept = [name for name, is_one in zip(called, is_left, strict=True) if not is_one]
    several = "them" if sum(is_left) > 1 else "it"
    return f"leave {several} out by {option('bands', kept)}" if kept else f"leave {several} out of the images"


def _given_away(band: BandFacts, threshold: float, class_names: Sequence[str]) -> str:
    """Return in words what a band gives away, or nothing; borders decide, where there are any."""
    known = [s for s in band.strong if s.gives_away(threshold)]
    if band.score >= threshold and (known or all(np.isnan(s.border) for s in band.strong)):
        return f"the label away: alone it tells the classes with a balanced accuracy of {band.score:.3f}"
    told = [f"{s.score:.3f}, and of {s.border:.3f} along its borders" for s in known]
    if len(known) == 1:
        name = class_names[known[0].index]
        return f"the class {name} away: alone it tells it from the rest with a balanced accuracy of {told[0]}"
    each = ", ".join(f"{class_names[s.index]} ({words})" for s, words in zip(known, told, strict=True))
    return f"classes away: alone it tells from the rest with a balanced accuracy each: {each}" if known else ""


def _strong_bands(bands: Sequence[BandFacts], class_names: Sequence[str]) -> list[Finding]:
    """Tell of bands that are as good as a label but along borders, where this could be looked at."""
    told = [f"{b.name} {class_names[s.index]} ({s.score:.3f}, {_along(s.border)})" for b in bands for s in b.strong]
    if not told:
        return []
    message = f"bands that alone tell a class from the rest, but do not know its borders: {some(told)}"
    return [Finding("strong_band", Severity.NOTE, f"{message}; taken for measurements, such as near infrared of water")]


def _along(border: float) -> str:
    return "along borders not measured" if np.isnan(border) else f"along borders {border:.3f}"


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
