"""Fingerprints of an image's places that are the same wherever an image is cut from its scene.

A hash is rolled over all neighbourhoods, and the lowest ones are kept. So content decides which, and the same ground
has the same fingerprints in every image that holds its very pixels. Method: Manber, "Finding similar files in a large
file system", USENIX 1994, in two dimensions.
"""

from __future__ import annotations

import numpy as np

from satseg.validate.facts import Fingerprints

GROWTH = (2, 2, 3)  # in how many steps a neighbourhood's side grows from one pixel
SIDE = 12  # pixels of a neighbourhood's side: their product
WANTED = 256  # fingerprints of a small image
RARE = 1 / 1024  # share of a large image's neighbourhoods that are kept
DENSE = 1 / 8  # of a tiny one's
MOST = 2**14  # fingerprints of one image; where there would be more, fewer neighbourhoods are kept
DISTINCT = 12  # different values in a neighbourhood, that fewer, such as of a straight edge, may be alike by chance
FACTORS = (0x9E3779B1, 0x85EBCA6B)  # odd, of rows and of columns; numbers wrap around at 2**32
MIXING = 0x7FEB352D


class FingerprintTally:
    """Takes fingerprints of an image, part by part from top to bottom.

    Args:
        height: Of the image, in pixels.
        width: The same.
    """

    def __init__(self, height: int, width: int) -> None:
        neighbourhoods = max((height - SIDE + 1) * (width - SIDE + 1), 1)
        share = min(max(RARE, WANTED / neighbourhoods), DENSE, MOST / neighbourhoods)
        self.limit = int(share * 2**32)
        self.row = 0
        self.rows = np.zeros((0, width), np.float32)
        self.found: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, grey: np.ndarray) -> None:
        """Add the next rows (height, width), NaN where a pixel is not usable."""
        self.rows = np.concatenate([self.rows, grey])
        if min(self.rows.shape) < SIDE:
            return
        self.found.append(self._taken())
        done = len(self.rows) - SIDE + 1
        self.row, self.rows = self.row + done, self.rows[done:].copy()

    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = _rolled(self.rows)
        low = np.flatnonzero(hashes < self.limit)
        rows, columns = np.divmod(_at_most_twice(hashes.ravel()[low], low), hashes.shape[1])
        near = np.lib.stride_tricks.sliding_window_view(self.rows, (SIDE, SIDE))[rows, columns].reshape(-1, SIDE**2)
        told = _is_telling(near)
        keys = hashes[rows, columns].astype(np.uint64) << np.uint64(32) | _second(near)
        return keys[told], np.stack([rows + self.row, columns], axis=1)[told].astype(np.int32)

    def fingerprints(self) -> Fingerprints:
        """Return those of the whole image; without what it holds several times, whose place tells nothing."""
        keys = np.concatenate([np.zeros(0, np.uint64), *(keys for keys, _ in self.found)])
        places = np.concatenate([np.zeros((0, 2), np.int32), *(places for _, places in self.found)])
        _, first, number = np.unique(keys, return_index=True, return_counts=True)
        single = first[number == 1]
        return Fingerprints(keys[single], places[single], self.limit << 32)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return numbers in which each bit of float32 numbers has a say."""
    bits = (values + np.float32(0)).view(np.uint32) * np.uint32(FACTORS[0])  # -0 becomes 0
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(MIXING)
    return bits ^ bits >> np.uint32(16)


def _rolled(values: np.ndarray) -> np.ndarray:
    """Return a hash of each neighbourhood, by its upper left corner: a polynomial of its numbers, modulo 2**32."""
    rolled = _mixed(values)
    for axis, factor in enumerate(FACTORS):
        size = 1
        for times in GROWTH:
            rolled = _grown(rolled, axis, times, size, np.uint32(pow(factor, size, 2**32)))
            size *= times
    return rolled


def _grown(hashes: np.ndarray, axis: int, times: int, size: int, power: np.uint32) -> np.ndarray:
    """Join the polynomials of so many stretches of a size, one behind the other along an axis."""
    hashes = np.moveaxis(hashes, axis, 0)  # a view
    length = len(hashes) - (times - 1) * size
    grown = hashes[:length]
    for start in range(size, times * size, size):
        grown = grown * power + hashes[start : start + length]
    return np.moveaxis(grown, 0, axis)


def _at_most_twice(hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Drop the places of what comes yet again: a flat area is one hash at thousands of them."""
    order = np.argsort(hashes, kind="stable")
    found = hashes[order]
    is_new = np.concatenate([np.ones(min(2, len(found)), bool), found[2:] != found[:-2]])
    kept: np.ndarray = places[order[is_new]]
    return kept


def _second(near: np.ndarray) -> np.ndarray:
    """Return a second hash of neighbourhoods (n, SIDE * SIDE), below 2**32."""
    factors = np.random.default_rng(0).integers(0, 2**63, SIDE**2, dtype=np.uint64) | np.uint64(1)
    hashes: np.ndarray = (_mixed(near).astype(np.uint64) * factors).sum(1, dtype=np.uint64) >> np.uint64(32)
    return hashes


def _is_telling(near: np.ndarray) -> np.ndarray:
    """Tell which neighbourhoods (n, SIDE * SIDE) are complete and hold enough different values."""
    values = np.sort(near, axis=1)
    distinct = np.count_nonzero(values[:, 1:] != values[:, :-1], axis=1) + 1
    telling: np.ndarray = np.isfinite(near).all(1) & (distinct >= DISTINCT)
    return telling
