"""Detection of overlapping crops of one scene by fingerprints of identical pixels.

A rolling hash is computed over all neighbourhoods of an image, and the lowest ones are kept. The selection depends on
content only, so the same pixels have the same fingerprints in every crop. Method: Manber, "Finding similar files in a
large file system", USENIX 1994, in two dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from satseg.validate.facts import Fingerprints

GROWTH = (2, 2, 3)  # factors by which a neighbourhood's side grows from one pixel
PATCH_SIDE = 12  # of a neighbourhood, in pixels: the product of these factors
TARGET_COUNT = 256  # fingerprints of a small image
MIN_DENSITY = 1 / 1024  # share of neighbourhoods kept in a large image
MAX_DENSITY = 1 / 8  # the same in a tiny image
MAX_FINGERPRINTS = 2**14  # of one image; a larger one keeps a smaller share
MIN_DISTINCT = 12  # values in a neighbourhood; fewer, such as of a straight edge, may match by chance
FACTORS = (0x9E3779B1, 0x85EBCA6B)  # odd, for rows and columns; arithmetic is modulo 2**32
MIX_CONSTANT = 0x7FEB352D
MIN_SHARED = 4  # fingerprints that two images must share at one shift
MIN_SHARED_FRACTION = 0.5  # of the fingerprints in the common area: a logo on all images is no overlap
MAX_IMAGES_PER_KEY = 300  # images that share one fingerprint; if more do, it is a repeated pattern
MAX_COMPARISONS = 4_000_000  # pairs of equal fingerprints; with more, a split is hopeless anyway


class FingerprintTally:
    """Fingerprinting of an image, part by part from top to bottom.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        neighbourhoods = max((height - PATCH_SIDE + 1) * (width - PATCH_SIDE + 1), 1)
        share = min(max(MIN_DENSITY, TARGET_COUNT / neighbourhoods), MAX_DENSITY, MAX_FINGERPRINTS / neighbourhoods)
        self.limit = int(share * 2**32)
        self.row = 0
        self.rows = np.zeros((0, width), np.float32)
        self.found: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, grey: np.ndarray) -> None:
        """Add the next rows (height, width), NaN where a pixel is invalid."""
        self.rows = np.concatenate([self.rows, grey])
        if min(self.rows.shape) < PATCH_SIDE:
            return
        self.found.append(self._select())
        done = len(self.rows) - PATCH_SIDE + 1
        self.row, self.rows = self.row + done, self.rows[done:].copy()

    def _select(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = _rolling_hashes(self.rows)
        low = np.flatnonzero(hashes < self.limit)
        rows, columns = np.divmod(_at_most_twice(hashes.ravel()[low], low), hashes.shape[1])
        windows = np.lib.stride_tricks.sliding_window_view(self.rows, (PATCH_SIDE, PATCH_SIDE))[rows, columns].reshape(
            -1, PATCH_SIDE**2
        )
        distinctive = _is_distinctive(windows)
        keys = hashes[rows, columns].astype(np.uint64) << np.uint64(32) | _second_hash(windows)
        return keys[distinctive], np.stack([rows + self.row, columns], axis=1)[distinctive].astype(np.int32)

    def fingerprints(self) -> Fingerprints:
        """Return the fingerprints of the whole image, without repeated ones, whose position is ambiguous."""
        keys = np.concatenate([np.zeros(0, np.uint64), *(keys for keys, _ in self.found)])
        positions = np.concatenate([np.zeros((0, 2), np.int32), *(positions for _, positions in self.found)])
        _, first, number = np.unique(keys, return_index=True, return_counts=True)
        single = first[number == 1]
        return Fingerprints(keys[single], positions[single], self.limit << 32)


def _mix(values: np.ndarray) -> np.ndarray:
    """Return hashes of float32 values that depend on every bit."""
    bits = (values + np.float32(0)).view(np.uint32) * np.uint32(FACTORS[0])  # -0 becomes 0
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(MIX_CONSTANT)
    return bits ^ bits >> np.uint32(16)


def _rolling_hashes(values: np.ndarray) -> np.ndarray:
    """Return a hash of each neighbourhood by its upper left corner: a polynomial of its values modulo 2**32."""
    hashes = _mix(values)
    for axis, factor in enumerate(FACTORS):
        size = 1
        for times in GROWTH:
            hashes = _concatenate(hashes, axis, times, size, np.uint32(pow(factor, size, 2**32)))
            size *= times
    return hashes


def _concatenate(hashes: np.ndarray, axis: int, times: int, size: int, power: np.uint32) -> np.ndarray:
    """Return the polynomials of `times` consecutive stretches along an axis, joined into one."""
    hashes = np.moveaxis(hashes, axis, 0)  # a view
    length = len(hashes) - (times - 1) * size
    grown = hashes[:length]
    for start in range(size, times * size, size):
        grown = grown * power + hashes[start : start + length]
    return np.moveaxis(grown, 0, axis)


def _at_most_twice(hashes: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Drop the positions of third and later occurrences: a flat area repeats one hash at thousands of positions."""
    order = np.argsort(hashes, kind="stable")
    found = hashes[order]
    is_new = np.concatenate([np.ones(min(2, len(found)), bool), found[2:] != found[:-2]])
    kept: np.ndarray = positions[order[is_new]]
    return kept


def _second_hash(windows: np.ndarray) -> np.ndarray:
    """Return a second hash of neighbourhoods (n, PATCH_SIDE**2), below 2**32."""
    factors = np.random.default_rng(0).integers(0, 2**63, PATCH_SIDE**2, dtype=np.uint64) | np.uint64(1)
    hashes: np.ndarray = (_mix(windows).astype(np.uint64) * factors).sum(1, dtype=np.uint64) >> np.uint64(32)
    return hashes


def _is_distinctive(windows: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of neighbourhoods (n, PATCH_SIDE**2) that are complete and have enough distinct values."""
    values = np.sort(windows, axis=1)
    distinct = np.count_nonzero(values[:, 1:] != values[:, :-1], axis=1) + 1
    distinctive: np.ndarray = np.isfinite(windows).all(1) & (distinct >= MIN_DISTINCT)
    return distinctive


class Crop(NamedTuple):
    """An image's fingerprints, size, and split index."""

    fingerprints: Fingerprints
    height: int
    width: int
    split: int


def find_overlaps(crops: Sequence[Crop]) -> Iterator[tuple[int, int, float]]:
    """Find pairs of images from different splits that hold the same pixels at any shift.

    Args:
        crops: All images.

    Yields:
        Indices of two images, and the share of the smaller one's pixels that both have.
    """
    for one, other, down, right, number in _shifts(crops).tolist() if crops else ():
        a, b = crops[one], crops[other]
        possible = min(_expected_shared(a, b, (down, right)), _expected_shared(b, a, (-down, -right)))
        if number >= MIN_SHARED_FRACTION * possible:
            yield one, other, _overlap_share(a, b, down, right)


def _shifts(crops: Sequence[Crop]) -> np.ndarray:
    """Return rows of two image indices, the shift at which they share most fingerprints, and their number."""
    images = np.repeat(np.arange(len(crops)), [len(c.fingerprints.keys) for c in crops])
    keys = np.concatenate([c.fingerprints.keys for c in crops])
    positions = np.concatenate([c.fingerprints.positions for c in crops])
    pairs = _pairs(keys, images, np.array([c.split for c in crops]))
    rows, numbers = _count_rows(
        np.concatenate([images[pairs], positions[pairs[:, 0]] - positions[pairs[:, 1]]], axis=1)
    )
    found = np.concatenate([rows, numbers[:, None]], axis=1)[numbers >= MIN_SHARED]
    found = found[np.lexsort((-found[:, 4], found[:, 1], found[:, 0]))]
    is_best = np.ones(len(found), bool)
    is_best[1:] = (found[1:, :2] != found[:-1, :2]).any(1)
    return found[is_best]


def _count_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows (n, columns) and their counts; faster than `np.unique`."""
    rows = rows[np.lexsort(rows.T)]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(is_new)
    return rows[starts], np.diff(starts, append=len(rows))


def _pairs(keys: np.ndarray, images: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Return the indices (n, 2) of equal keys from images of different splits, the earlier image first."""
    order = np.argsort(keys, kind="stable")
    _, place, number = np.unique(keys[order], return_inverse=True, return_counts=True)
    order = order[number[place] <= MAX_IMAGES_PER_KEY]
    found = [np.zeros((0, 2), np.int64)]
    for distance in range(1, MAX_IMAGES_PER_KEY):
        one, other = order[:-distance], order[distance:]
        same = keys[one] == keys[other]
        if not same.any() or sum(map(len, found)) > MAX_COMPARISONS:
            break
        across = same & (splits[images[one]] != splits[images[other]])
        found.append(np.stack([one[across], other[across]], axis=1))
    return np.concatenate(found)


def _expected_shared(crop: Crop, other: Crop, shift: tuple[int, int]) -> int:
    """Return the number of an image's fingerprints that the other one should have at a shift."""
    keys, positions, _ = crop.fingerprints
    moved = positions - np.array(shift)
    inside = (moved >= 0).all(1) & (moved + PATCH_SIDE <= [other.height, other.width]).all(1)
    limit = min(crop.fingerprints.limit, other.fingerprints.limit)
    return int(np.count_nonzero(inside & (keys < np.uint64(limit))))


def _overlap_share(one: Crop, other: Crop, down: int, right: int) -> float:
    height = min(one.height, other.height + down) - max(0, down)
    width = min(one.width, other.width + right) - max(0, right)
    return height * width / min(one.height * one.width, other.height * other.width)
