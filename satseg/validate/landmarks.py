"""Landmarks of an image: places that stand out, found again after resampling, compression, turning and mirroring.

A landmark is where the difference between a small and a larger neighbourhood's mean is greatest far around, as by Lowe,
"Distinctive image features from scale-invariant keypoints", IJCV 2004, at one scale and with quarter turns only.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from satseg.validate.facts import Landmarks
from satseg.validate.turns import TURNS

CELL = 3  # pixels a side of the means that describe a landmark
CELLS = 5  # of them a side
REACH = (CELLS // 2) * CELL + CELL // 2  # pixels from a landmark to the edge of what describes it
WIDE = CELL + CELL // 2  # the same of the larger neighbourhood
WANTED = 256  # landmarks of a small image, at most
MOST = 2**13  # of any
AREA = 1.8  # pixels, times the square of the distance that a landmark stands out in, on which there is about one
NEAREST, FARTHEST = 2, 5  # doublings of that distance, in an image of any size but a huge one
NUMBERS = (
    (0, 1),
    (1, 0),
    (1, 1),
    (0, 2),
    (2, 0),
    (1, 2),
    (2, 1),
    (0, 3),
    (3, 0),
    (2, 2),
    (1, 3),
    (3, 1),
)  # frequencies
PRECISION = 127.0
ROUND = 0.1  # least ratio of gradients across and along: an edge looks the same all along


class LandmarkTally:
    """Finds an image's landmarks, part by part from top to bottom.

    Args:
        height: Of the image, in pixels.
        width: The same.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.doublings = _doublings(height * width)
        self.radius = 2 ** (self.doublings - 1)
        self.margin = WIDE + self.radius + REACH  # rows above and below that decide on a place
        self.first = self.done = 0  # rows: of what is kept, and of what is decided
        self.rows = np.zeros((0, width), np.float32)
        self.found: list[Landmarks] = []

    def add(self, grey: np.ndarray) -> None:
        """Add the next rows (height, width), NaN where a pixel is not usable."""
        self.rows = np.concatenate([self.rows, grey]) if len(self.rows) else grey
        end = self.first + len(self.rows)
        decided = end if end == self.height else end - self.margin
        if decided <= self.done:
            return
        self.found.append(self._found(self.done, decided))
        self.done = decided
        kept = max(0, decided - self.margin - self.first)
        self.first, self.rows = self.first + kept, self.rows[kept:].copy()

    def _found(self, start: int, end: int) -> Landmarks:
        """Return the landmarks in some of the image's rows."""
        if min(self.rows.shape) <= 2 * REACH:
            return _none()
        means = _mean_of_nine(self.rows, 1)
        contrast = np.abs(means[CELL:-CELL, CELL:-CELL] - _mean_of_nine(means, CELL))
        contrast[~np.isfinite(contrast)] = -1
        around = _highest(np.pad(contrast, self.radius, constant_values=-1), self.doublings)
        places = np.argwhere((contrast >= around) & (contrast > 0)) + WIDE
        inside = (places >= REACH).all(1) & (places < np.array(self.rows.shape) - REACH).all(1)
        places = places[inside & (places[:, 0] + self.first >= start) & (places[:, 0] + self.first < end)]
        steps = np.arange(-(CELLS // 2), CELLS // 2 + 1) * CELL - CELL // 2  # to a mean's own row
        rows, columns = (places[:, axis, None] + steps for axis in (0, 1))
        near = means[rows[:, :, None], columns[:, None, :]].astype(np.float64)
        near -= near.mean((1, 2), keepdims=True)
        lengths = np.sqrt((near**2).sum((1, 2)))
        usable = np.isfinite(lengths) & (lengths > 0)
        usable[usable] = _is_round(near[usable])
        near, places = near[usable] / lengths[usable, None, None], places[usable]
        strength = contrast[places[:, 0] - WIDE, places[:, 1] - WIDE]
        near, turns = _upright(near)
        return Landmarks(_described(near), (places + np.array([self.first, 0])).astype(np.int32), turns, strength)

    def landmarks(self) -> Landmarks:
        """Return those of the whole image, the strongest ones where there are too many."""
        found = Landmarks(*(np.concatenate(parts) for parts in zip(_none(), *self.found, strict=True)))
        kept = np.sort(np.argsort(-found.strengths, kind="stable")[:MOST])
        return Landmarks(*(part[kept] for part in found))


def _none() -> Landmarks:
    no = np.zeros(0)
    return Landmarks(
        np.zeros((0, len(NUMBERS)), np.int8), np.zeros((0, 2), np.int32), no.astype(np.uint8), no.astype(np.float32)
    )


def _doublings(pixels: int) -> int:
    """Return how often 1 pixel is doubled to the distance in which a landmark stands out."""
    doublings = NEAREST
    while pixels / (AREA * 4**doublings) > (WANTED if doublings < FARTHEST else MOST):
        doublings += 1
    return doublings


def _mean_of_nine(values: np.ndarray, step: int) -> np.ndarray:
    """Return the mean of nine values, so many apart, around each; smaller by `step` on each side."""
    for axis in (0, 1):
        moved = np.moveaxis(values, axis, 0)
        values = np.moveaxis(moved[: -2 * step] + moved[step:-step] + moved[2 * step :], 0, axis)
    means: np.ndarray = values * np.float32(1 / 9)
    return means


def _highest(values: np.ndarray, doublings: int) -> np.ndarray:
    """Return the highest of the values in squares of 2**doublings + 1 a side."""
    for axis in (0, 1):
        moved = np.moveaxis(values, axis, 0)
        for step in (*(2**k for k in range(doublings)), 1):
            moved = np.maximum(moved[:-step], moved[step:])
        values = np.moveaxis(moved, 0, axis)
    return values


def _is_round(near: np.ndarray) -> np.ndarray:
    """Tell which squares (n, side, side) change in two directions, not in one."""
    down = np.diff(near, axis=1)[:, :, :-1] + np.diff(near, axis=1)[:, :, 1:]
    right = np.diff(near, axis=2)[:, :-1] + np.diff(near, axis=2)[:, 1:]
    a, b, c = (down**2).sum((1, 2)), (down * right).sum((1, 2)), (right**2).sum((1, 2))
    spread = np.sqrt((a - c) ** 2 + 4 * b**2)
    is_round: np.ndarray = a + c - spread >= ROUND * (a + c + spread)
    return is_round


def _upright(near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn and mirror squares (n, side, side) so that they get brighter mostly to the right, and downwards.

    Returns:
        The squares, and the indices of TURNS that lead from them to what they were.
    """
    steps = np.arange(CELLS) - CELLS // 2
    down, right = (near * steps[:, None]).sum((1, 2)), (near * steps).sum((1, 2))
    swapped, up, left = np.abs(down) > np.abs(right), down < 0, right < 0
    near = np.where(up[:, None, None], near[:, ::-1], near)
    near = np.where(left[:, None, None], near[:, :, ::-1], near)
    near = np.where(swapped[:, None, None], near.swapaxes(1, 2), near)
    turns = [TURNS.index((bool(s), bool(u), bool(v))) for s, u, v in zip(swapped, up, left, strict=True)]
    return near, np.array(turns, np.uint8)


def _described(near: np.ndarray) -> np.ndarray:
    """Return the amplitudes of a square's low frequencies (n, numbers), int8; squares of length 1."""
    waves = dct(dct(near, axis=1, norm="ortho"), axis=2, norm="ortho")
    rows, columns = np.array(NUMBERS).T
    numbers: np.ndarray = np.rint(waves[:, rows, columns] * PRECISION).astype(np.int8)
    return numbers
