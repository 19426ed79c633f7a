"""The eight ways to lay a picture on itself: quarter turns and mirrors."""

from __future__ import annotations

import numpy as np

TURNS = tuple((swap, down, right) for swap in (False, True) for down in (False, True) for right in (False, True))
WORDS = (
    "",
    "mirrored left to right",
    "mirrored top to bottom",
    "turned by 180°",
    "turned by 90° and mirrored",
    "turned by 90°",
    "turned by 90°",  # the other way round, which depends on what is called the original
    "turned by 90° and mirrored",
)


def turned(pictures: np.ndarray, number: int) -> np.ndarray:
    """Return a view of pictures (..., rows, columns) with rows and columns swapped, then reversed, as TURNS has it."""
    swap, down, right = TURNS[number]
    pictures = pictures.swapaxes(-1, -2) if swap else pictures
    return pictures[..., :: -1 if down else 1, :: -1 if right else 1]


def matrix(number: int) -> np.ndarray:
    """Return what `turned` does to an offset (row, column) from a picture's centre, (2, 2)."""
    swap, down, right = TURNS[number]
    signs = np.diag([-1.0 if down else 1.0, -1.0 if right else 1.0])
    return signs[:, ::-1] if swap else signs
