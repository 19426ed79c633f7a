"""Detection of bands that leak the label, and of categorical bands among measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from satseg.data.labels.class_options import format_option
from satseg.validate.facts import Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, abbreviate
from satseg.validate.giveaways import ClassScore, score_all, score_border, score_each, tabulate

MAX_CATEGORIES = 64  # a band with more distinct values is a measurement; CORINE land cover has 44
MAX_CERTAIN_CATEGORIES = 32  # integers in patches; more need neighbouring patches that differ clearly
MAX_CODE_RANGE = 10_000  # largest range of category codes
MIN_MEASURED = 128  # distinct values that other bands must have for few to be unusual
MIN_FLAT = 0.6  # share of pixels that equal their left neighbour: categories form patches
MAX_NON_MEASURED = 5  # so few values are no measurement, however they change
MIN_STEPPING = 0.5  # share of changes by 1 in a faint measurement, such as Sentinel-2's cirrus band
MAX_MEAN_STEPS = 1.7  # mean difference of neighbours in steps: the same criterion for non-integers
MIN_UNLIKE = 0.5  # of the mean difference of any two values: neighbours that differ as much are category codes
STEP_TOLERANCE = 0.05  # of a step, for non-integers
MAX_BUMP = 0.15  # of the highest count: deviation of a faint measurement's histogram from a single peak


@dataclass(frozen=True)
class BandFacts:
    """One band over all images.

    Attributes:
        name: As in the file.
        low: Lowest valid value.
        high: Highest valid value.
        distinct: Number of distinct values among the sampled pixels.
        flat: Share of pixels that equal their left neighbour.
        stepping: Share of the other pixels that differ by 1.
        unlike: Mean difference of unequal neighbours over the mean difference of any two distinct values; about 1 for
            category codes, and 0 if the band has too many values.
        score: Balanced accuracy of predicting the classes from this band alone, on held-out images; NaN if it cannot be
            measured.
        strong: Scores of the classes that it separates from all others as well as a leaking band.
        step: Common divisor of all differences of its values: 1 for integers, else the smallest difference; 0 if there
            is none, or the range exceeds MAX_CODE_RANGE steps.
        counts: Histogram of the sampled values in steps from lowest to highest; empty if step is 0.
        change: Mean difference of unequal neighbours.
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
    """Measure every band over all images with this number of bands.

    Args:
        facts: Facts of all samples.
        names: Names of the bands.
        num_classes: K.
        threshold: Balanced accuracy above which a band may leak a class.
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
    """Return the scores above a threshold, with those along borders."""
    strong = [score for score in scores if score.score >= threshold]
    measured = [score_border(score.index, [i.borders for i in images], band) for score in strong]
    return tuple(replace(s, border=border, order=order) for s, (border, order) in zip(strong, measured, strict=True))


def _mean_change(images: Sequence[ImageFacts]) -> np.ndarray:
    """Return the mean difference of unequal neighbours by band, weighted by their number in each image."""
    weights = 1 - np.array([i.flat for i in images])
    total: np.ndarray = (weights * [i.change for i in images]).sum(0) / np.maximum(weights.sum(0), 1e-9)
    return total


def _unlike(values: np.ndarray, change: float) -> float:
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if not 2 <= len(distinct) <= MAX_CATEGORIES:
        return 0.0
    shares = counts / counts.sum()
    apart = shares @ np.abs(distinct[:, None] - distinct) @ shares
    return float(change * (1 - shares @ shares) / apart)


def _step(values: np.ndarray) -> float:
    distinct = np.unique(values).astype(np.float64)  # differences could overflow the files' integers
    if not 2 <= len(distinct) <= MAX_CODE_RANGE:
        return 0.0
    is_whole = (distinct == np.rint(distinct)).all()
    step = 1.0 if is_whole else float(np.diff(distinct).min())
    steps = (distinct - distinct[0]) / step
    return step if steps[-1] <= MAX_CODE_RANGE and np.allclose(steps, np.rint(steps), atol=STEP_TOLERANCE) else 0.0


def _counts(values: np.ndarray, step: float) -> tuple[int, ...]:
    if not step:
        return ()
    values = values.astype(np.float64)
    return tuple(np.bincount(np.rint((values - values.min()) / step).astype(np.int64)).tolist())


def check_bands(
    bands: Sequence[BandFacts], threshold: float, class_names: Sequence[str], option_names: Sequence[int | str]
) -> list[Finding]:
    """Find bands that predict the mask, or one of its classes, nearly on their own; and categorical bands.

    Args:
        bands: The measured bands.
        threshold: Balanced accuracy above which a band leaks the label.
        class_names: K names.
        option_names: Number or name of each band in dataset.bands.
    """
    giveaways = {b.name: _describe_giveaway(b, threshold, class_names) for b in bands}
    categorical = [b.name for b in bands if not giveaways[b.name] and _is_categorical(b, bands)]
    known = [bool(giveaways[b.name]) for b in bands]
    excluded = [bool(giveaways[b.name]) or b.name in categorical for b in bands]
    expected = (
        f"No band alone separates all classes, or a class even along its borders; measurements such as NDVI stay below "
        f"{threshold:g} there (giveaway)."
    )
    if len(bands) > 1 and all(known):
        return [_easy_classes(giveaways)]
    findings = [
        Finding(
            "giveaway_band",
            Severity.ERROR,
            f"band {name} gives {words} (threshold {threshold:g})",
            expected,
            f"Labels are unknown when a model is used: {describe_exclusion(option_names, known)}.",
        )
        for name, words in giveaways.items()
        if words
    ]
    return [*findings, *_strong_bands([b for b in bands if not giveaways[b.name]], class_names)] + [
        Finding(
            "categorical_band",
            Severity.WARNING,
            f"band {b.name} is categorical: {b.distinct} {_kind(b)} from {b.low:g} to {b.high:g} in patches, where "
            "other bands hold measurements",
            "Bands hold measurements: a land-cover product or a quality mask is no reflectance.",
            "If it is a quality band, set the pixels that it flags to nodata in the files; "
            f"{describe_exclusion(option_names, excluded)}.",
        )
        for b in bands
        if b.name in categorical
    ]


def _easy_classes(giveaways: Mapping[str, str]) -> Finding:
    """Return the finding about a dataset in which every band predicts the mask or a class on its own."""
    name, words = next(iter(giveaways.items()))
    return Finding(
        "easy_classes",
        Severity.WARNING,
        f"each of the {len(giveaways)} bands alone gives the label or a class away; {name} gives {words}",
        "No band alone separates the classes.",
        "The classes may simply be easy to tell apart, as in synthetic data; otherwise make sure that the images are "
        "not made from the masks.",
    )


def describe_exclusion(option_names: Sequence[int | str], is_left: Sequence[bool]) -> str:
    """Return the option that reads all bands but some, as text.

    Args:
        option_names: Number or name of each band in dataset.bands.
        is_left: True for each band that is left out.
    """
    kept = [name for name, is_one in zip(option_names, is_left, strict=True) if not is_one]
    several = "them" if sum(is_left) > 1 else "it"
    return f"leave {several} out with {format_option('bands', kept)}" if kept else f"leave {several} out of the images"


def _describe_giveaway(band: BandFacts, threshold: float, class_names: Sequence[str]) -> str:
    """Return a description of what a band leaks, or an empty string; borders decide if there are any."""
    known = [s for s in band.strong if s.gives_away(threshold)]
    if band.score >= threshold and (known or all(np.isnan(s.border) for s in band.strong)):
        return f"the label away: alone it predicts the classes with a balanced accuracy of {band.score:.3f}"
    scores = [f"{s.score:.3f}, and of {s.border:.3f} along its borders" for s in known]
    if len(known) == 1:
        name = class_names[known[0].index]
        return f"the class {name} away: alone it separates it from the rest with a balanced accuracy of {scores[0]}"
    each = ", ".join(f"{class_names[s.index]} ({words})" for s, words in zip(known, scores, strict=True))
    return f"classes away: alone it separates them from the rest with a balanced accuracy of: {each}" if known else ""


def _strong_bands(bands: Sequence[BandFacts], class_names: Sequence[str]) -> list[Finding]:
    """Return a note about bands that separate a class as well as a label does, except along borders."""
    strong = [
        f"{b.name} {class_names[s.index]} ({s.score:.3f}, {_format_border(s.border)})" for b in bands for s in b.strong
    ]
    if not strong:
        return []
    message = f"bands that alone separate a class from the rest, but not along its borders: {abbreviate(strong)}"
    return [
        Finding("strong_band", Severity.NOTE, f"{message}; assumed to be measurements, such as near infrared of water")
    ]


def _format_border(border: float) -> str:
    return "along borders not measured" if np.isnan(border) else f"along borders {border:.3f}"


def _is_categorical(band: BandFacts, bands: Sequence[BandFacts]) -> bool:
    others = [b.distinct for b in bands if b is not band]
    if (
        not others
        or np.median(others) < MIN_MEASURED
        or band.flat < MIN_FLAT
        or not 2 <= band.distinct <= MAX_CATEGORIES
    ):
        return False
    if band.step == 1 and band.distinct <= MAX_CERTAIN_CATEGORIES:
        return band.distinct <= MAX_NON_MEASURED or not _is_faint(band)
    return band.unlike >= MIN_UNLIKE and (band.distinct <= MAX_NON_MEASURED or not band.step or not _is_faint(band))


def _kind(band: BandFacts) -> str:
    return "integers" if band.step == 1 else "distinct values"


def _is_faint(band: BandFacts) -> bool:
    """Return whether the values form one peak without gaps and change step by step: a measurement of a narrow range."""
    counts = np.array(band.counts)
    peak, bump = int(counts.argmax()), MAX_BUMP * counts.max()
    is_single_peak = (np.diff(counts[: peak + 1]) >= -bump).all() and (np.diff(counts[peak:]) <= bump).all()
    is_gradual = band.stepping >= MIN_STEPPING if band.step == 1 else band.change <= MAX_MEAN_STEPS * band.step
    return bool(counts.all() and is_single_peak and is_gradual)
