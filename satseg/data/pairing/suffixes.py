"""Suffixes that distinguish names of images and masks, such as `a.tif` and `a_mask.tif`."""

from __future__ import annotations

import itertools
import re
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

IMAGE_WORDS = ("image", "images", "img", "sat", "rgb")
MASK_WORDS = ("mask", "masks", "label", "labels", "lbl", "gt", "annotation", "seg", "groundtruth")
SEPARATORS = "_-. "
SAMPLED = 500  # names that suffixes are derived from
MAX_TRIED = 20


@dataclass(frozen=True)
class Suffixes:
    """Suffixes of image and mask names, and the number of names that they pair.

    Attributes:
        image: Suffix of image names; "" if there is none.
        mask: Suffix of mask names; likewise.
        pairs: Number of names that are the same without the suffixes.
    """

    image: str
    mask: str
    pairs: int

    @property
    def is_common(self) -> bool:
        """Whether both are usual words for images and masks."""
        return _is_one_of(self.image, IMAGE_WORDS) and _is_one_of(self.mask, MASK_WORDS)


def _is_one_of(suffix: str, words: Collection[str]) -> bool:
    return not suffix or suffix.lstrip(SEPARATORS).lower() in words


def find_suffixes(images: Collection[str], masks: Collection[str]) -> list[Suffixes]:
    """Return the suffixes that pair at least half of the names, best first.

    Args:
        images: Names of images without the file extension.
        masks: Names of masks without the file extension.
    """
    same = _pairs(images, masks, "", "")
    if same == min(len(images), len(masks)):
        return [Suffixes("", "", same)] if same else []
    candidates = Counter(_differences(images, masks)) | Counter({("", ""): SAMPLED})
    found = [Suffixes(i, m, _pairs(images, masks, i, m)) for (i, m), _ in candidates.most_common(MAX_TRIED)]
    least = max(1, min(len(images), len(masks)) / 2)
    return sorted((s for s in found if s.pairs >= least), key=lambda s: (-s.pairs, s.image, s.mask))


def _pairs(images: Collection[str], masks: Collection[str], image: str, mask: str) -> int:
    one = {name.removesuffix(image) for name in images if name.endswith(image)}
    return len(one & {name.removesuffix(mask) for name in masks if name.endswith(mask)})


def _differences(images: Collection[str], masks: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the suffixes in which some masks' names differ from the adjacent image names in sorted order."""
    ordered = sorted(images)
    for mask in sorted(masks)[:: max(1, len(masks) // SAMPLED)]:
        place = bisect(ordered, mask)
        for image in ordered[max(0, place - 1) : place + 1]:
            rests = _rests(image, mask)
            if any(rests) and all(map(_is_suffix, rests)):
                yield rests


def _rests(one: str, other: str) -> tuple[str, str]:
    """Return the ends of two names from where they differ, starting at the separator before."""
    same = sum(1 for _ in itertools.takewhile(lambda letters: letters[0] == letters[1], zip(one, other, strict=False)))
    if not all(rest[:1] in ("", *SEPARATORS) for rest in (one[same:], other[same:])):
        same = max(one.rfind(separator, 0, same) for separator in SEPARATORS)
    return (one[same:], other[same:]) if same > 0 else (one, other)


def _is_suffix(text: str) -> bool:
    """Return True for a suffix with letters; numbers distinguish samples, and slashes belong to folders."""
    return not text or re.fullmatch(r"[_. -][^/]*[^\W\d_][^/]*", text) is not None


def split_by_suffix(names: Collection[str]) -> tuple[set[str], set[str]]:
    """Divide the names in one folder into those of images and those of masks, by their suffix."""
    masks = set(filter(has_mask_suffix, names))
    return {*names} - masks, masks


def has_mask_suffix(name: str) -> bool:
    """Return True if a name without file extension ends in a word for masks."""
    return re.search(rf"[_. -]({'|'.join(MASK_WORDS)})$", name, re.IGNORECASE) is not None
