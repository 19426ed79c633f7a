"""Endings in which the names of images and of their masks differ, such as `a.tif` and `a_mask.tif`."""

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
SAMPLED = 500  # names that endings are looked for in
MAX_TRIED = 20


@dataclass(frozen=True)
class Suffixes:
    """Endings of image and mask names, and how many names they pair.

    Attributes:
        image: Of image names; "" where these have none.
        mask: Of mask names.
        pairs: Names that are the same without the endings.
    """

    image: str
    mask: str
    pairs: int

    @property
    def is_common(self) -> bool:
        """Whether both are words that people tell images from masks with."""
        return _is_one_of(self.image, IMAGE_WORDS) and _is_one_of(self.mask, MASK_WORDS)


def _is_one_of(suffix: str, words: Collection[str]) -> bool:
    return not suffix or suffix.lstrip(SEPARATORS).lower() in words


def find_suffixes(images: Collection[str], masks: Collection[str]) -> list[Suffixes]:
    """Return the endings that pair at least half of the names, those that pair most first.

    Args:
        images: Names of images, without the file's ending.
        masks: Names of masks.
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
    """Yield in what some masks' names differ from those of the images that come next to them in order."""
    ordered = sorted(images)
    for mask in sorted(masks)[:: max(1, len(masks) // SAMPLED)]:
        place = bisect(ordered, mask)
        for image in ordered[max(0, place - 1) : place + 1]:
            rests = _rests(image, mask)
            if any(rests) and all(map(_is_suffix, rests)):
                yield rests


def _rests(one: str, other: str) -> tuple[str, str]:
    """Return what remains of two names from where they differ, each from the separator before it on."""
    same = sum(1 for _ in itertools.takewhile(lambda letters: letters[0] == letters[1], zip(one, other, strict=False)))
    if not all(rest[:1] in ("", *SEPARATORS) for rest in (one[same:], other[same:])):
        same = max(one.rfind(separator, 0, same) for separator in SEPARATORS)
    return (one[same:], other[same:]) if same > 0 else (one, other)


def _is_suffix(text: str) -> bool:
    """Tell an ending with a word from a number, which tells names apart, and from what holds a folder."""
    return not text or re.fullmatch(r"[_. -][^/]*[^\W\d_][^/]*", text) is not None


def split_by_suffix(names: Collection[str]) -> tuple[set[str], set[str]]:
    """Divide names of one folder into those of images and of masks, by whether they end in a word for a mask."""
    masks = set(filter(has_mask_suffix, names))
    return {*names} - masks, masks


def has_mask_suffix(name: str) -> bool:
    """Tell whether a name without the file's ending ends in a word for a mask."""
    return re.search(rf"[_. -]({'|'.join(MASK_WORDS)})$", name, re.IGNORECASE) is not None
