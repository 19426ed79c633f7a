"""Images whose numbers are shifted or in another unit than those of the others, as two products in one folder are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from satseg.data.shifts import beside_fill, find_factor, find_shift, levels, usual_shift
from satseg.validation.facts import Facts
from satseg.validation.findings import Finding, Severity, count

FEW_PIXELS = 50
# Deviations within two groups of images that lie between them: about 3 where a single group is cut in two. Seasons move
# a single band as an offset does, so it must be clearer there.
APART, APART_ALONE = 3.5, 6.0
Pixels = tuple[str, np.ndarray]  # an image's file, and numbers of it (bands, n)
EXPECTED = "The same number means the same in every image."


def check_shifts(facts: Sequence[Facts]) -> list[Finding]:
    """Find a group of images that differ from the others by one number in all bands.

    Images of 8 bits are pictures, which only light makes brighter; products with offsets and units have more.

    Args:
        facts: Of all samples.
    """
    images = _alike(facts)
    if len(images) < 2:
        return []
    there = np.array([levels(pixels) for _, pixels in images])
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(there > 0, np.log(there), np.nan)[:, :, 1:]
    is_known = np.isfinite(factors).all((1, 2))
    if is_known.all() and (found := _split(images, factors, lambda one, other: find_factor(one, other) - 1)):
        files, factor = found
        words = f"numbers {factor + 1:.3g} times those of the others, in all bands alike"
        return [_finding(files, "in another unit", words, "Bring all into one unit.")]
    if found := _split(images, there, find_shift):
        files, shift = found
        words = f"numbers about {abs(usual_shift(shift)):g} {'higher' if shift > 0 else 'lower'} than those of the "
        words += "others, in all bands alike, as the offset of a product's version makes them"
        return [_finding(files, "shifted", words, f"Subtract {usual_shift(shift):g} from these.")]
    return []


def _alike(facts: Sequence[Facts]) -> list[Pixels]:
    """Return the images that tell something beside a fill, and have as many bands as the most."""
    measured = [f for f in facts if f.image and f.image_info and f.image_info.dtype != "uint8"]
    drawn = [(f.image_file, beside_fill(f.image.drawn)) for f in measured if f.image and not f.image.is_constant]
    seen = [(file, pixels) for file, pixels in drawn if pixels.shape[1] >= FEW_PIXELS]
    usual = Counter(len(pixels) for _, pixels in seen).most_common(1)
    return [(file, pixels) for file, pixels in seen if len(pixels) == usual[0][0]]


def _split(
    images: Sequence[Pixels],
    there: np.ndarray,
    difference: Callable[[np.ndarray, np.ndarray], float],
) -> tuple[tuple[str, ...], float] | None:
    """Part images into two groups, and return the smaller one's files if one number is what tells it from the other."""
    heights = np.median(there - np.median(there, axis=0), axis=(1, 2))
    order = np.argsort(heights, kind="stable")
    cut = _cut(heights[order])
    few, many = sorted((order[cut:], order[:cut]), key=len)  # of two halves the higher one
    within = np.concatenate([heights[few] - heights[few].mean(), heights[many] - heights[many].mean()])
    apart = APART if there.shape[1] > 1 else APART_ALONE
    if abs(heights[few].mean() - heights[many].mean()) < apart * within.std():
        return None
    pooled = [levels(np.concatenate([images[i][1] for i in some], axis=1)) for some in (few, many)]
    found = difference(*pooled)
    return (tuple(images[i][0] for i in sorted(few)), found) if found else None


def _cut(heights: np.ndarray) -> int:
    """Return where to part ascending numbers so that both parts vary as little as they can (Otsu 1979)."""
    number = np.arange(1, len(heights))
    below = np.cumsum(heights)[:-1]
    between = (below / number - (heights.sum() - below) / (len(heights) - number)) ** 2
    return int((between * number * (len(heights) - number)).argmax()) + 1


def _finding(files: tuple[str, ...], kind: str, words: str, repair: str) -> Finding:
    return Finding(
        "distribution",
        Severity.WARNING,
        f"{count(len(files), 'image')} {'is' if len(files) == 1 else 'are'} {kind}: {words}",
        EXPECTED,
        repair,
        files,
    )
