"""Images whose numbers are shifted or in another unit than those of the others, as two products in one folder are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from satseg.data.shifts import (
    USUAL_SHIFTS,
    differences,
    find_factor,
    find_shift,
    levels,
    usual_factor,
    usual_shift,
    without_fill,
)
from satseg.validate.facts import Facts
from satseg.validate.findings import Finding, Severity, count

FEW_PIXELS = 50
# Of a single band, seasons move the numbers as an offset does: two groups must lie so many deviations within them
# apart, which are about 3 where a single group is cut in two.
APART_ALONE = 6.0
# Share of a group's images that must each differ from the others as a scene would from the training, in all bands
# alike; and of the others, at most: 0 of both in scripts/benchmarks/mixed_products.py where nothing was mixed.
TOLD, STRAY = 0.5, 0.1
FACTOR_ALONE = 50.0  # what a factor between numbers around 0 must come to: an index is 40 times as flat over snow
TURNS = 10  # in which a group may settle
ENOUGH = 20  # images from which a shift needs not be a usual one, such as 1000; of fewer, some differ by any number
BELOW = -1.0  # where the mean of decibels lies; an index, too, may be below 0 everywhere
KINDS = 3  # of products in one dataset that are looked for
Difference = Callable[[np.ndarray, np.ndarray], float]  # one number for all bands between levels; 0 where there is none
EXPECTED = "The same number means the same in every image."


class Pixels(NamedTuple):
    """An image's file, and numbers of it (bands, n)."""

    file: str
    numbers: np.ndarray


class Group(NamedTuple):
    """Images that differ from the others by one number in all bands: indices (n,), and the number."""

    images: np.ndarray
    difference: float


def check_shifts(facts: Sequence[Facts], splits: Mapping[str, Sequence[Facts]] | None = None) -> list[Finding]:
    """Find groups of images that differ from the others by one number in all bands.

    Images of 8 bits are pictures, which only light makes brighter; products with offsets and units have more.

    Args:
        facts: Of all samples.
        splits: The same by split.
    """
    images, findings = _alike(facts), []
    places = {f"the {split} split": {f.image_file for f in some} for split, some in (splits or {}).items()}
    for _ in range(KINDS):
        if len(images) < 2:
            break
        there = np.array([levels(numbers) for _, numbers in images])
        named = _negative(images, there) or _in_unit(images, there) or _shifted(images, there)
        if named is None:
            break
        group, kind, words, repair = named
        files = tuple(images[i].file for i in sorted(group))
        images = [image for i, image in enumerate(images) if i not in set(group.tolist())]
        findings.append(_finding(files, kind + _where(files, [i.file for i in images], places), words, repair))
    return findings


Named = tuple[np.ndarray, str, str, str]  # images, their kind, what tells them, and what to do


def _negative(images: Sequence[Pixels], there: np.ndarray) -> Named | None:
    """Tell decibels, which are below 0 here, from numbers that never are."""
    below = ((there[:, :, 2] < 0) & (there[:, :, 1] < BELOW)).all(1)
    above = (there[:, :, 0] >= 0).all(1)
    if not (below | above).all() or below.all() or above.all():
        return None
    words = (
        f"numbers below 0, where those of the {np.count_nonzero(above):,} others are not, as decibels among linear ones"
    )
    repair = "Make linear numbers of these, 10 ** (dB / 10), or decibels of the others, 10 * log10(linear)."
    return np.flatnonzero(below), "in another unit", words, repair


def _in_unit(images: Sequence[Pixels], there: np.ndarray) -> Named | None:
    least = FACTOR_ALONE if there.shape[1] == 1 and len(there) < ENOUGH else 1.0
    if (there < 0).any():  # as of indices, which lie around 0: a factor is one of how far they reach
        there, least = np.array([levels(np.abs(numbers)) for _, numbers in images]), FACTOR_ALONE

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        factor = find_factor(one, other)
        return factor - 1 if max(factor, 1 / factor) > least else 0.0

    found = _group(there, difference, by_factor=True)
    if not found:
        return None
    factor = found.difference + 1
    unit = usual_factor(1 / factor)
    words = f"numbers {factor:.3g} times those of the others, in all bands alike"
    if all(_is_of_bytes(images[i].numbers) for i in found.images):
        words += ", and whole from 0 to 255, as of pictures of 8 bits"
        return found.images, "in another unit", words, "Take these from the product that the others are from."
    how = f"Multiply these by {unit:g}" if unit >= 1 else f"Divide these by {1 / unit:g}"
    return found.images, "in another unit", words, f"{how}, to bring all into one unit."


def _is_of_bytes(numbers: np.ndarray) -> bool:
    return bool(numbers.min() >= 0 and 1 < numbers.max() <= 255 and (numbers == np.rint(numbers)).all())


def _shifted(images: Sequence[Pixels], there: np.ndarray) -> Named | None:
    found = _group(there, find_shift, by_factor=False)
    if not found:
        return None
    shift = usual_shift(found.difference)
    if len(there) < ENOUGH and abs(shift) not in USUAL_SHIFTS:
        return None
    words = f"numbers about {abs(shift):g} {'higher' if shift > 0 else 'lower'} than those of the others, in all bands "
    words += "alike, as the offset of a product's version makes them"
    how = f"Subtract {shift:g} from these" if shift > 0 else f"Subtract {-shift:g} from the others, or add it to these"
    return found.images, "shifted", words, f"{how}."


def _alike(facts: Sequence[Facts]) -> list[Pixels]:
    """Return the images that tell something beside a fill, and have as many bands as the most."""
    measured = [f for f in facts if f.image and f.image_info and f.image_info.dtype != "uint8"]
    drawn = [(f.image_file, without_fill(f.image.drawn)) for f in measured if f.image and not f.image.is_constant]
    seen = [Pixels(file, pixels) for file, pixels in drawn if pixels.shape[1] >= FEW_PIXELS]
    usual = Counter(len(pixels) for _, pixels in seen).most_common(1)
    return [image for image in seen if len(image.numbers) == usual[0][0]]


def _group(there: np.ndarray, difference: Difference, *, by_factor: bool) -> Group | None:
    """Return the smaller part of the images, if one number is what tells it from the others.

    Args:
        there: Levels of N images (N, C, 3).
        difference: Of levels; that of the preflight of a scene.
        by_factor: Whether it is a factor.
    """
    for start in _starts(there, difference, by_factor):
        is_alone = there.shape[1] == 1
        for few in [start] if is_alone else [_settled(there, start, by_factor), start]:
            if few is None or few.all() or not few.any():
                continue
            many = np.median(there[~few], axis=0)
            if is_alone:
                is_clear = _are_apart(differences(there, many, by_factor), few)
            else:
                told = np.array([bool(difference(one, many)) for one in there])
                is_clear = told[few].mean() >= TOLD and told[~few].mean() <= STRAY
            if is_clear and (found := difference(np.median(there[few], axis=0), many)):
                return Group(np.flatnonzero(few), found)
    return None


def _starts(there: np.ndarray, difference: Difference, by_factor: bool) -> Iterator[np.ndarray]:
    """Return parts of the images (N,) to begin with: those unlike the middle one, and the higher or lower ones."""
    middle = np.median(there, axis=0)
    apart = differences(there, middle, by_factor)
    if not np.isfinite(apart).any((1, 2)).all():
        return
    if len(middle) > 1:
        yield np.array([bool(difference(one, middle)) for one in there])
    heights = np.nanmedian(apart, axis=(1, 2))
    order = np.argsort(heights, kind="stable")
    higher = np.isin(np.arange(len(there)), order[_cut(heights[order]) :])
    yield _smaller(higher)


def _settled(there: np.ndarray, few: np.ndarray, by_factor: bool) -> np.ndarray | None:
    """Return a part of the images once each is in the one that it is nearer to; None where one part has all."""
    for _ in range(TURNS):
        if few.all() or not few.any():
            return None
        few = _smaller(few)
        many = np.median(there[~few], axis=0)
        number = np.nanmedian(differences(np.median(there[few], axis=0)[None], many, by_factor))
        apart = differences(there, many, by_factor)
        weights = 1 if by_factor else 1 / np.maximum(many[:, 2:] - many[:, :1], 1e-9)
        nearer = np.nanmean(np.abs(apart - number) * weights, (1, 2)) < np.nanmean(np.abs(apart) * weights, (1, 2))
        if (nearer == few).all():
            break
        few = nearer
    return _smaller(few)


def _smaller(part: np.ndarray) -> np.ndarray:
    return ~part if 2 * np.count_nonzero(part) > len(part) else part


def _are_apart(apart: np.ndarray, few: np.ndarray) -> bool:
    heights = np.nanmedian(apart, axis=(1, 2))
    one, other = heights[few], heights[~few]
    within = np.concatenate([one - one.mean(), other - other.mean()])
    return bool(abs(one.mean() - other.mean()) >= APART_ALONE * within.std())


def _cut(heights: np.ndarray) -> int:
    """Return where to part ascending numbers so that both parts vary as little as they can (Otsu 1979)."""
    number = np.arange(1, len(heights))
    below = np.cumsum(heights)[:-1]
    between = (below / number - (heights.sum() - below) / (len(heights) - number)) ** 2
    return int((between * number * (len(heights) - number)).argmax()) + 1


def _where(files: Sequence[str], others: Sequence[str], places: Mapping[str, set[str]]) -> str:
    """Return in words which split, or which folder, a group of files is the whole of."""
    for place, own in places.items():
        if own & {*files, *others} == set(files):
            return f" ({place})"
    folder = os.path.commonpath([str(Path(file).parent) for file in files])
    is_whole = len(files) > 1 and not any(other.startswith(folder + os.sep) for other in others)
    return f" (all of {folder})" if is_whole else ""


def _finding(files: tuple[str, ...], kind: str, words: str, repair: str) -> Finding:
    return Finding(
        "distribution",
        Severity.WARNING,
        f"{count(len(files), 'image')} {'is' if len(files) == 1 else 'are'} {kind}: {words}",
        EXPECTED,
        repair,
        files,
    )
