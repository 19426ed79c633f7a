"""Segmenting an image as a whole if it is small, else window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from satseg.inference.averaging import IDENTITY, AnyNetwork, Segmenter, View, averaged

MAX_PIXELS = 4_194_304  # 2048 x 2048: larger images are split into windows, on every machine
WINDOW = 1024
OVERLAP = 256
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
