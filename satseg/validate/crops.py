"""Images that are cut from one scene and overlap, found by their pixels where no coordinates tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from satseg.validate.facts import Fingerprints
from satseg.validate.fingerprints import SIDE

LEAST = 4  # fingerprints that two images share at one shift
SOLID = 0.5  # share of the fingerprints in the common area that both must have: a logo on all images is no overlap
COMMON = 300  # images that may have one fingerprint; what more have is a pattern
MOST = 4_000_000  # equal fingerprints that are compared; with more a split is hopeless anyway


class Cut(NamedTuple):
    """What can overlap: an image's fingerprints, its size, and its split's number."""

    fingerprints: Fingerprints
    height: int
    width: int
    split: int


def overlapping(cuts: Sequence[Cut]) -> Iterator[tuple[int, int, float]]:
    """Find the pairs of different splits that hold the same pixels, moved by any number of rows and columns.

    Args:
        cuts: All images.

    Yields:
        Numbers of two of them, and the share of the smaller one's pixels that both have.
    """
    for one, other, down, right, number in _shifts(cuts).tolist() if cuts else ():
        a, b = cuts[one], cuts[other]
        possible = min(_in_common(a, b, (down, right)), _in_common(b, a, (-down, -right)))
        if number >= SOLID * possible:
            yield one, other, _area(a, b, down, right)


def _shifts(cuts: Sequence[Cut]) -> np.ndarray:
    """Return rows of two images, the shift at which they share most fingerprints, and how many these are."""
    images = np.repeat(np.arange(len(cuts)), [len(c.fingerprints.keys) for c in cuts])
    keys = np.concatenate([c.fingerprints.keys for c in cuts])
    places = np.concatenate([c.fingerprints.places for c in cuts])
    pairs = _pairs(keys, images, np.array([c.split for c in cuts]))
    rows, numbers = _tally(np.concatenate([images[pairs], places[pairs[:, 0]] - places[pairs[:, 1]]], axis=1))
    found = np.concatenate([rows, numbers[:, None]], axis=1)[numbers >= LEAST]
    found = found[np.lexsort((-found[:, 4], found[:, 1], found[:, 0]))]
    is_best = np.ones(len(found), bool)
    is_best[1:] = (found[1:, :2] != found[:-1, :2]).any(1)
    return found[is_best]


def _tally(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows (n, columns) and how often each comes; faster than `np.unique`."""
    rows = rows[np.lexsort(rows.T)]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(is_new)
    return rows[starts], np.diff(starts, append=len(rows))


def _pairs(keys: np.ndarray, images: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Return the numbers of equal keys of images of different splits, (n, 2), the earlier image first."""
    order = np.argsort(keys, kind="stable")
    _, place, number = np.unique(keys[order], return_inverse=True, return_counts=True)
    order = order[number[place] <= COMMON]
    found = [np.zeros((0, 2), np.int64)]
    for distance in range(1, COMMON):
        one, other = order[:-distance], order[distance:]
        same = keys[one] == keys[other]
        if not same.any() or sum(map(len, found)) > MOST:
            break
        across = same & (splits[images[one]] != splits[images[other]])
        found.append(np.stack([one[across], other[across]], axis=1))
    return np.concatenate(found)


def _in_common(cut: Cut, other: Cut, shift: tuple[int, int]) -> int:
    """Return how many fingerprints of an image the other one would have, did it continue at a shift."""
    keys, places, _ = cut.fingerprints
    moved = places - np.array(shift)
    inside = (moved >= 0).all(1) & (moved + SIDE <= [other.height, other.width]).all(1)
    limit = min(cut.fingerprints.limit, other.fingerprints.limit)
    return int(np.count_nonzero(inside & (keys < np.uint64(limit))))


def _area(one: Cut, other: Cut, down: int, right: int) -> float:
    height = min(one.height, other.height + down) - max(0, down)
    width = min(one.width, other.width + right) - max(0, right)
    return height * width / min(one.height * one.width, other.height * other.width)
