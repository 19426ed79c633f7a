"""Landmarks of an image: keypoints that survive resampling, compression, rotation and mirroring.

A landmark is a local maximum of the difference between the means of a small and a larger neighbourhood, as in Lowe,
"Distinctive image features from scale-invariant keypoints", IJCV 2004, at one scale and with rotations by 90° only.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from satseg.validate.facts import Landmarks
from satseg.validate.orientations import ORIENTATIONS

CELL_PIXELS = 3  # per side of the cells that describe a landmark
CELLS_PER_SIDE = 5
# From a landmark to the edge of the cells that describe it, in pixels.
PATCH_RADIUS = (CELLS_PER_SIDE // 2) * CELL_PIXELS + CELL_PIXELS // 2
CONTRAST_RADIUS = CELL_PIXELS + CELL_PIXELS // 2  # of the larger neighbourhood
TARGET_COUNT = 256  # largest number of landmarks of a small image
MAX_LANDMARKS = 2**13  # of any image
PIXELS_PER_LANDMARK = 1.8  # times the square of the suppression distance
MIN_DOUBLINGS, MAX_DOUBLINGS = 2, 5  # of the suppression distance, except in huge images
FREQUENCIES = (  # of rows and columns, that describe a landmark
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
)
QUANTISATION = 127.0
MIN_CORNERNESS = 0.1  # ratio of the gradient energies along both principal axes: edges are ambiguous


class LandmarkTally:
    """Detector of an image's landmarks, part by part from top to bottom.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.doublings = _doublings(height * width)
        self.radius = 2 ** (self.doublings - 1)
        self.margin = CONTRAST_RADIUS + self.radius + PATCH_RADIUS  # rows above and below that a decision depends on
        self.first = self.done = 0  # first row in memory, and first undecided row
        self.rows = np.zeros((0, width), np.float32)
        self.found: list[Landmarks] = []

    def add(self, grey: np.ndarray) -> None:
        """Add the next rows (height, width), NaN where a pixel is invalid."""
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
        if min(self.rows.shape) <= 2 * PATCH_RADIUS:
            return _empty()
        means = _box_mean(self.rows, 1)
        contrast = np.abs(means[CELL_PIXELS:-CELL_PIXELS, CELL_PIXELS:-CELL_PIXELS] - _box_mean(means, CELL_PIXELS))
        contrast[~np.isfinite(contrast)] = -1
        around = _max_filter(np.pad(contrast, self.radius, constant_values=-1), self.doublings)
        positions = np.argwhere((contrast >= around) & (contrast > 0)) + CONTRAST_RADIUS
        inside = (positions >= PATCH_RADIUS).all(1) & (positions < np.array(self.rows.shape) - PATCH_RADIUS).all(1)
        positions = positions[inside & (positions[:, 0] + self.first >= start) & (positions[:, 0] + self.first < end)]
        offsets = np.arange(-(CELLS_PER_SIDE // 2), CELLS_PER_SIDE // 2 + 1) * CELL_PIXELS
        steps = offsets - CELL_PIXELS // 2  # to the row of a cell's mean
        rows, columns = (positions[:, axis, None] + steps for axis in (0, 1))
        patches = means[rows[:, :, None], columns[:, None, :]].astype(np.float64)
        patches -= patches.mean((1, 2), keepdims=True)
        lengths = np.sqrt((patches**2).sum((1, 2)))
        usable = np.isfinite(lengths) & (lengths > 0)
        usable[usable] = _is_corner(patches[usable])
        patches, positions = patches[usable] / lengths[usable, None, None], positions[usable]
        strength = contrast[positions[:, 0] - CONTRAST_RADIUS, positions[:, 1] - CONTRAST_RADIUS]
        patches, orientations = _canonical(patches)
        return Landmarks(
            _describe(patches), (positions + np.array([self.first, 0])).astype(np.int32), orientations, strength
        )

    def landmarks(self) -> Landmarks:
        """Return the landmarks of the whole image, the strongest if there are too many."""
        found = Landmarks(*(np.concatenate(parts) for parts in zip(_empty(), *self.found, strict=True)))
        kept = np.sort(np.argsort(-found.strengths, kind="stable")[:MAX_LANDMARKS])
        return Landmarks(*(part[kept] for part in found))


def _empty() -> Landmarks:
    no = np.zeros(0)
    return Landmarks(
        np.zeros((0, len(FREQUENCIES)), np.int8), np.zeros((0, 2), np.int32), no.astype(np.uint8), no.astype(np.float32)
    )


def _doublings(pixels: int) -> int:
    """Return the suppression distance as a number of doublings of 1 pixel."""
    doublings = MIN_DOUBLINGS
    while pixels / (PIXELS_PER_LANDMARK * 4**doublings) > (
        TARGET_COUNT if doublings < MAX_DOUBLINGS else MAX_LANDMARKS
    ):
        doublings += 1
    return doublings


def _box_mean(values: np.ndarray, step: int) -> np.ndarray:
    """Return the mean of nine values `step` apart around each; smaller by `step` on each side."""
    for axis in (0, 1):
        moved = np.moveaxis(values, axis, 0)
        values = np.moveaxis(moved[: -2 * step] + moved[step:-step] + moved[2 * step :], 0, axis)
    means: np.ndarray = values * np.float32(1 / 9)
    return means


def _max_filter(values: np.ndarray, doublings: int) -> np.ndarray:
    """Return the maximum in squares of side 2**doublings + 1."""
    for axis in (0, 1):
        moved = np.moveaxis(values, axis, 0)
        for step in (*(2**k for k in range(doublings)), 1):
            moved = np.maximum(moved[:-step], moved[step:])
        values = np.moveaxis(moved, 0, axis)
    return values


def _is_corner(patches: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of patches (n, side, side) that vary in two directions, not in one."""
    down = np.diff(patches, axis=1)[:, :, :-1] + np.diff(patches, axis=1)[:, :, 1:]
    right = np.diff(patches, axis=2)[:, :-1] + np.diff(patches, axis=2)[:, 1:]
    a, b, c = (down**2).sum((1, 2)), (down * right).sum((1, 2)), (right**2).sum((1, 2))
    spread = np.sqrt((a - c) ** 2 + 4 * b**2)
    is_round: np.ndarray = a + c - spread >= MIN_CORNERNESS * (a + c + spread)
    return is_round


def _canonical(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate and mirror patches (n, side, side) to get brighter mostly to the right, and downwards.

    Returns:
        The patches, and the indices of ORIENTATIONS that restore them.
    """
    steps = np.arange(CELLS_PER_SIDE) - CELLS_PER_SIDE // 2
    down, right = (patches * steps[:, None]).sum((1, 2)), (patches * steps).sum((1, 2))
    swapped, up, left = np.abs(down) > np.abs(right), down < 0, right < 0
    patches = np.where(up[:, None, None], patches[:, ::-1], patches)
    patches = np.where(left[:, None, None], patches[:, :, ::-1], patches)
    patches = np.where(swapped[:, None, None], patches.swapaxes(1, 2), patches)
    orientations = [ORIENTATIONS.index((bool(s), bool(u), bool(v))) for s, u, v in zip(swapped, up, left, strict=True)]
    return patches, np.array(orientations, np.uint8)


def _describe(patches: np.ndarray) -> np.ndarray:
    """Return the low-frequency amplitudes (n, length), int8, of patches of norm 1."""
    waves = dct(dct(patches, axis=1, norm="ortho"), axis=2, norm="ortho")
    rows, columns = np.array(FREQUENCIES).T
    descriptors: np.ndarray = np.rint(waves[:, rows, columns] * QUANTISATION).astype(np.int8)
    return descriptors
