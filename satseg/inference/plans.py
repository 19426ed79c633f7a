"""Cutting a scene into windows; a function of the scene's size and of what was asked for alone, never of memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from satseg.errors import ConfigError
from satseg.inference.windows import Piece, plan
from satseg.models import STRIDE

SMALLEST_WINDOW = 128
OVERLAP = 128  # pixels, where windows are large enough


@dataclass(frozen=True)
class ScenePlan:
    """Windows in rows and columns.

    Attributes:
        rows: Windows along the height.
        cols: Windows along the width.
        zone: Pixels, at each seam between two windows, in which both count; 0 where one ends and the next begins.
    """

    rows: tuple[Piece, ...]
    cols: tuple[Piece, ...]
    zone: int

    @property
    def height(self) -> int:
        """Pixels of the scene along the height."""
        return self.rows[-1].stop

    @property
    def width(self) -> int:
        """Pixels of the scene along the width."""
        return self.cols[-1].stop

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of every window."""
        return self.rows[0].stop, self.cols[0].stop

    def spans(self) -> Iterator[tuple[int, int]]:
        """Return, for each column of windows, which columns of the scene it completes: up to its right seam's zone."""
        edges = [0, *(piece.keep_stop - self.zone // 2 for piece in self.cols[:-1]), self.width]
        return pairwise(edges)


def plan_scene(height: int, width: int, *, window: int, overlap: int | str, blend: bool = True) -> ScenePlan:
    """Cut a scene into windows of one size; neighbours share at least `overlap` pixels, and little is seen twice.

    Args:
        height: Of the scene, in pixels.
        width: Of the scene, in pixels.
        window: The longest side that a window may have; they are made as small as their number allows.
        overlap: Pixels that neighbours share at least, or `auto`.
        blend: Whether both neighbours count in the overlap, by weights that change smoothly.

    Raises:
        ConfigError: If window and overlap do not go together.
    """
    overlap = check_windows(window, overlap)
    rows, cols = (tuple(plan(n, fit(n, window, overlap), overlap)) for n in (height, width))
    return ScenePlan(rows, cols, overlap if blend else 0)


def check_windows(window: Any, overlap: Any) -> int:
    """Return the overlap; `auto` is 128 pixels, or less where windows are small.

    Raises:
        ConfigError: If window and overlap do not go together.
    """
    if not isinstance(window, int) or window < SMALLEST_WINDOW or window % STRIDE:
        raise ConfigError(
            f"window_size={window}: expected a multiple of {STRIDE} from {SMALLEST_WINDOW} on, such as 512."
        )
    if overlap == "auto":
        return min(OVERLAP, window // 4)
    if not isinstance(overlap, int) or not 0 <= overlap <= window // 4:
        raise ConfigError(
            f"overlap={overlap}: expected 0 to {window // 4}, a quarter of window_size={window}; or auto."
        )
    return overlap


def fit(length: int, window: int, overlap: int) -> int:
    """Return the smallest side, a multiple of 32, that covers an axis with as many windows as `window` does."""
    if length <= window:
        return length
    count = -(-(length - overlap) // (window - overlap))
    side = -(-(length - overlap) // count) + overlap
    return min(-(-side // STRIDE) * STRIDE, window)
