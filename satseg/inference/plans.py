"""Cutting a scene into windows, which depends on the scene's size and the options only, never on memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from satseg.errors import ConfigError
from satseg.inference.windows import Piece, plan
from satseg.models import STRIDE

MIN_WINDOW = 128
OVERLAP = 128  # pixels, where windows are large enough


@dataclass(frozen=True)
class ScenePlan:
    """A grid of windows.

    Attributes:
        rows: Windows along the height.
        cols: Windows along the width.
        zone: Width in pixels of the zone at each seam in which both windows contribute; 0 without blending.
    """

    rows: tuple[Piece, ...]
    cols: tuple[Piece, ...]
    zone: int

    @property
    def height(self) -> int:
        """Height of the scene in pixels."""
        return self.rows[-1].stop

    @property
    def width(self) -> int:
        """Width of the scene in pixels."""
        return self.cols[-1].stop

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of every window."""
        return self.rows[0].stop, self.cols[0].stop

    def spans(self) -> Iterator[tuple[int, int]]:
        """Return the range of scene columns that each column of windows completes, up to the zone of its right seam."""
        edges = [0, *(piece.keep_stop - self.zone // 2 for piece in self.cols[:-1]), self.width]
        return pairwise(edges)


def plan_scene(height: int, width: int, *, window: int, overlap: int | str, blend: bool = True) -> ScenePlan:
    """Cut a scene into windows of one size that share at least `overlap` pixels and little more.

    Args:
        height: Height of the scene in pixels.
        width: Width of the scene in pixels.
        window: Maximum side of a window; windows are as small as their number allows.
        overlap: Minimum number of pixels that neighbours share, or `auto`.
        blend: Whether both neighbours contribute in the overlap, with smoothly changing weights.

    Raises:
        ConfigError: If window and overlap do not fit each other.
    """
    overlap = check_windows(window, overlap)
    rows, cols = (tuple(plan(n, smallest_window(n, window, overlap), overlap)) for n in (height, width))
    return ScenePlan(rows, cols, overlap if blend else 0)


def check_windows(window: Any, overlap: Any) -> int:
    """Return the overlap in pixels; `auto` is 128, or less where windows are small.

    Raises:
        ConfigError: If window and overlap do not fit each other.
    """
    if not isinstance(window, int) or window < MIN_WINDOW or window % STRIDE:
        raise ConfigError(f"window_size={window}: expected a multiple of {STRIDE}, at least {MIN_WINDOW}, such as 512.")
    if overlap == "auto":
        return min(OVERLAP, window // 4)
    if not isinstance(overlap, int) or not 0 <= overlap <= window // 4:
        raise ConfigError(
            f"overlap={overlap}: expected 0 to {window // 4}, a quarter of window_size={window}; or auto."
        )
    return overlap


def smallest_window(length: int, window: int, overlap: int) -> int:
    """Return the smallest side, a multiple of 32, that covers an axis with as many windows as `window` does."""
    if length <= window:
        return length
    count = -(-(length - overlap) // (window - overlap))
    side = -(-(length - overlap) // count) + overlap
    return min(-(-side // STRIDE) * STRIDE, window)
