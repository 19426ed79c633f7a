"""The eight symmetries of a square: rotations by 90° and reflections."""

from __future__ import annotations

import numpy as np

ORIENTATIONS = tuple((swap, down, right) for swap in (False, True) for down in (False, True) for right in (False, True))
DESCRIPTIONS = (
    "",
    "mirrored left to right",
    "mirrored top to bottom",
    "rotated by 180°",
    "rotated by 90° and mirrored",
    "rotated by 90°",
    "rotated by 90°",  # in the other direction, which depends on which one is called the original
    "rotated by 90° and mirrored",
)


def reorient(pictures: np.ndarray, number: int) -> np.ndarray:
    """Return a view of pictures (..., rows, columns) transposed, then reversed, as ORIENTATIONS specifies."""
    swap, down, right = ORIENTATIONS[number]
    pictures = pictures.swapaxes(-1, -2) if swap else pictures
    return pictures[..., :: -1 if down else 1, :: -1 if right else 1]


def orientation_matrix(number: int) -> np.ndarray:
    """Return the matrix (2, 2) of `reorient` for offsets (row, column) from a picture's centre."""
    swap, down, right = ORIENTATIONS[number]
    signs = np.diag([-1.0 if down else 1.0, -1.0 if right else 1.0])
    return signs[:, ::-1] if swap else signs
