"""Detection of images with an offset or another unit, such as two products mixed in one folder."""

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

MIN_PIXELS = 50
# In a single band, seasons shift the values as an offset does: two groups must be separated by this many standard
# deviations within groups; halves of a single group are separated by about 3.
MIN_SEPARATION_SINGLE_BAND = 6.0
# Smallest share of a group's images that each differ from the others as in the preflight check of a scene, alike in
# all bands; and largest share of the others. Both are 0 in scripts/benchmarks/mixed_products.py if nothing is mixed.
MIN_SHIFTED, MAX_STRAY = 0.5, 0.1
MIN_FACTOR = 50.0  # between values around 0: an index is 40 times as flat over snow
MAX_ROUNDS = 10  # of reassigning images to groups
MIN_IMAGES_ANY_SHIFT = 20  # to report any shift; with fewer, only common ones such as 1000
MAX_DECIBEL_MEAN = -1.0  # of decibels; an index may be below 0 everywhere, too
MAX_KINDS = 3  # of products in one dataset
Difference = Callable[[np.ndarray, np.ndarray], float]  # of levels, common to all bands; 0 if there is none
EXPECTED = "A value means the same in every image."


class Pixels(NamedTuple):
    """An image's file, and a sample of its values (bands, n)."""

    file: str
    numbers: np.ndarray


class Group(NamedTuple):
    """Images that differ from the others by the same amount in all bands: indices (n,), and the amount."""

    images: np.ndarray
    difference: float


def check_shifts(facts: Sequence[Facts], splits: Mapping[str, Sequence[Facts]] | None = None) -> list[Finding]:
    """Find groups of images that differ from the others by the same amount in all bands.

    8-bit images are left out: they are pictures, whose brightness varies with illumination; products with offsets and
    units have more bits.

    Args:
        facts: Facts of all samples.
        splits: The same by split.
    """
    images, findings = _comparable(facts), []
    places = {f"the {split} split": {f.image_file for f in some} for split, some in (splits or {}).items()}
    for _ in range(MAX_KINDS):
        if len(images) < 2:
            break
        image_levels = np.array([levels(numbers) for _, numbers in images])
        detection = (
            _decibels(images, image_levels) or _other_unit(images, image_levels) or _shifted(images, image_levels)
        )
        if detection is None:
            break
        group, kind, words, repair = detection
        files = tuple(images[i].file for i in sorted(group))
        images = [image for i, image in enumerate(images) if i not in set(group.tolist())]
        findings.append(_finding(files, kind + _describe_whole(files, [i.file for i in images], places), words, repair))
    return findings


Detection = tuple[np.ndarray, str, str, str]  # images, their kind, the evidence, and the remedy


def _decibels(images: Sequence[Pixels], image_levels: np.ndarray) -> Detection | None:
    """Return the images in decibels, which are below 0, among images that never are."""
    below = ((image_levels[:, :, 2] < 0) & (image_levels[:, :, 1] < MAX_DECIBEL_MEAN)).all(1)
    above = (image_levels[:, :, 0] >= 0).all(1)
    if not (below | above).all() or below.all() or above.all():
        return None
    words = (
        f"values below 0, unlike those of the {np.count_nonzero(above):,} others, as of decibels among linear values"
    )
    repair = "Convert these to linear values, 10 ** (dB / 10), or the others to decibels, 10 * log10(linear)."
    return np.flatnonzero(below), "in another unit", words, repair


def _other_unit(images: Sequence[Pixels], image_levels: np.ndarray) -> Detection | None:
    least = MIN_FACTOR if image_levels.shape[1] == 1 and len(image_levels) < MIN_IMAGES_ANY_SHIFT else 1.0
    if (image_levels < 0).any():  # as of indices around 0, whose factor is that of their magnitudes
        image_levels, least = np.array([levels(np.abs(numbers)) for _, numbers in images]), MIN_FACTOR

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        factor = find_factor(one, other)
        return factor - 1 if max(factor, 1 / factor) > least else 0.0

    found = _group(image_levels, difference, by_factor=True)
    if not found:
        return None
    factor = found.difference + 1
    unit = usual_factor(1 / factor)
    words = f"values {factor:.3g} times those of the others, in all bands alike"
    if all(_is_of_bytes(images[i].numbers) for i in found.images):
        words += ", and integers from 0 to 255, as of 8-bit pictures"
        return found.images, "in another unit", words, "Take these from the same product as the others."
    how = f"Multiply these by {unit:g}" if unit >= 1 else f"Divide these by {1 / unit:g}"
    return found.images, "in another unit", words, f"{how}, to bring all into one unit."


def _is_of_bytes(numbers: np.ndarray) -> bool:
    return bool(numbers.min() >= 0 and 1 < numbers.max() <= 255 and (numbers == np.rint(numbers)).all())


def _shifted(images: Sequence[Pixels], image_levels: np.ndarray) -> Detection | None:
    found = _group(image_levels, find_shift, by_factor=False)
    if not found:
        return None
    shift = usual_shift(found.difference)
    if len(image_levels) < MIN_IMAGES_ANY_SHIFT and abs(shift) not in USUAL_SHIFTS:
        return None
    words = f"values about {abs(shift):g} {'higher' if shift > 0 else 'lower'} than those of the others, in all bands "
    words += "alike, as from the offset of a product version"
    how = f"Subtract {shift:g} from these" if shift > 0 else f"Subtract {-shift:g} from the others, or add it to these"
    return found.images, "shifted", words, f"{how}."


def _comparable(facts: Sequence[Facts]) -> list[Pixels]:
    """Return the images that have content besides fill values, and the most common number of bands."""
    measured = [f for f in facts if f.image and f.image_info and f.image_info.dtype != "uint8"]
    drawn = [(f.image_file, without_fill(f.image.drawn)) for f in measured if f.image and not f.image.is_constant]
    seen = [Pixels(file, pixels) for file, pixels in drawn if pixels.shape[1] >= MIN_PIXELS]
    usual = Counter(len(pixels) for _, pixels in seen).most_common(1)
    return [image for image in seen if len(image.numbers) == usual[0][0]]


def _group(image_levels: np.ndarray, difference: Difference, *, by_factor: bool) -> Group | None:
    """Return the smaller part of the images, if it differs from the others by one amount.

    Args:
        image_levels: Levels of N images (N, C, 3).
        difference: Difference of levels, as in the preflight check of a scene.
        by_factor: True if it is a factor, False if it is an offset.
    """
    for start in _initial_groups(image_levels, difference, by_factor):
        is_single_band = image_levels.shape[1] == 1
        for few in [start] if is_single_band else [_refine(image_levels, start, by_factor), start]:
            if few is None or few.all() or not few.any():
                continue
            many = np.median(image_levels[~few], axis=0)
            if is_single_band:
                is_clear = _are_apart(differences(image_levels, many, by_factor), few)
            else:
                differs = np.array([bool(difference(one, many)) for one in image_levels])
                is_clear = differs[few].mean() >= MIN_SHIFTED and differs[~few].mean() <= MAX_STRAY
            if is_clear and (found := difference(np.median(image_levels[few], axis=0), many)):
                return Group(np.flatnonzero(few), found)
    return None


def _initial_groups(image_levels: np.ndarray, difference: Difference, by_factor: bool) -> Iterator[np.ndarray]:
    """Yield initial groups of images (N,), boolean: those unlike the median one, and the higher or lower ones."""
    middle = np.median(image_levels, axis=0)
    apart = differences(image_levels, middle, by_factor)
    if not np.isfinite(apart).any((1, 2)).all():
        return
    if len(middle) > 1:
        yield np.array([bool(difference(one, middle)) for one in image_levels])
    heights = np.nanmedian(apart, axis=(1, 2))
    order = np.argsort(heights, kind="stable")
    higher = np.isin(np.arange(len(image_levels)), order[_otsu_index(heights[order]) :])
    yield _smaller(higher)


def _refine(image_levels: np.ndarray, few: np.ndarray, by_factor: bool) -> np.ndarray | None:
    """Return a group after assigning each image to the nearer one of two (2-means); None if one group is empty."""
    for _ in range(MAX_ROUNDS):
        if few.all() or not few.any():
            return None
        few = _smaller(few)
        many = np.median(image_levels[~few], axis=0)
        number = np.nanmedian(differences(np.median(image_levels[few], axis=0)[None], many, by_factor))
        apart = differences(image_levels, many, by_factor)
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
    return bool(abs(one.mean() - other.mean()) >= MIN_SEPARATION_SINGLE_BAND * within.std())


def _otsu_index(heights: np.ndarray) -> int:
    """Return the index that divides ascending values with the least variance within both parts (Otsu 1979)."""
    number = np.arange(1, len(heights))
    below = np.cumsum(heights)[:-1]
    between = (below / number - (heights.sum() - below) / (len(heights) - number)) ** 2
    return int((between * number * (len(heights) - number)).argmax()) + 1


def _describe_whole(files: Sequence[str], others: Sequence[str], places: Mapping[str, set[str]]) -> str:
    """Return the split, or folder, that a group of files makes up entirely, as text."""
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
