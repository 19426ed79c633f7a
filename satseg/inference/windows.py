"""Overlapping windows, by which scenes and large images are segmented.

They depend on the size of the image and on options only, never on memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from satseg.errors import ConfigError
from satseg.inference.averaging import IDENTITY, AnyNetwork, Segmenter, View, averaged
from satseg.models import STRIDE

MAX_PIXELS = 4_194_304  # 2048 x 2048: larger images are split into windows, on every machine
WINDOW = 1024
OVERLAP = 256
MIN_WINDOW = 128  # of a scene
SCENE_OVERLAP = 128  # pixels, where windows are large enough
PLAN = (
    f"images of up to {MAX_PIXELS} pixels whole; larger ones by windows of {WINDOW} pixels that overlap by at least "
    f"{OVERLAP}, each pixel from the window whose border is farthest"
)


class Piece(NamedTuple):
    """The extent of a window along one axis, and the part of it that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan(length: int, window: int, overlap: int) -> list[Piece]:
    """Cut an axis into overlapping windows; each pixel is kept from the window whose border is farthest.

    Args:
        length: Length of the axis in pixels.
        window: Length of a window in pixels.
        overlap: Minimum overlap of neighbours in pixels.

    Returns:
        Pieces whose kept parts cover the axis from 0 to `length` without gaps.
    """
    if length <= window:
        return [Piece(0, length, 0, length)]
    count = -(-(length - overlap) // (window - overlap))
    starts = [round(i * (length - window) / (count - 1)) for i in range(count)]
    edges = [0, *((a + window + b) // 2 for a, b in pairwise(starts)), length]
    return [Piece(s, s + window, edges[i], edges[i + 1]) for i, s in enumerate(starts)]


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
        return min(SCENE_OVERLAP, window // 4)
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


def segment(network: AnyNetwork, image: Tensor, valid: Tensor, tta_views: Sequence[View] = (IDENTITY,)) -> Tensor:
    """Compute logits in float32, without gradients; image by image, since batching changes the rounding.

    Args:
        network: A network in evaluation mode.
        image: Raw values (N, C, H, W), on the network's device.
        valid: Boolean (N, H, W).
        tta_views: Views whose probabilities are averaged; the unchanged image by default.

    Returns:
        Logits (N, K, H, W).
    """
    segmenter, classes = averaged([network], tta_views), network.spec.num_classes
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        parts = [_segment_one(segmenter, classes, image[i : i + 1], valid[i : i + 1]) for i in range(len(image))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _segment_one(segmenter: Segmenter, num_classes: int, image: Tensor, valid: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if height * width <= MAX_PIXELS:
        return segmenter(image, valid)
    result = torch.empty(1, num_classes, height, width, device=image.device)
    for rows, cols in _grid(height, width):
        part = (..., slice(rows.start, rows.stop), slice(cols.start, cols.stop))
        logits = segmenter(image[part], valid[part])
        kept = _kept(rows), _kept(cols)
        result[..., rows.keep_start : rows.keep_stop, cols.keep_start : cols.keep_stop] = logits[(..., *kept)]
    return result


def _grid(height: int, width: int) -> Iterator[tuple[Piece, Piece]]:
    for rows in plan(height, WINDOW, OVERLAP):
        for cols in plan(width, WINDOW, OVERLAP):
            yield rows, cols


def _kept(piece: Piece) -> slice:
    return slice(piece.keep_start - piece.start, piece.keep_stop - piece.start)
