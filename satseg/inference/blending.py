"""Joining what neighbouring windows say, so that no seam shows and memory does not grow with the scene.

At a seam both windows count, within a zone as wide as their overlap, by weights that sum to 1. Each axis is blended by
itself, and at a place no more than two terms meet, so that the sum does not depend on the order of the windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from satseg.inference.plans import ScenePlan
from satseg.inference.windows import Piece


class Seen(NamedTuple):
    """What the network says of one window: logits (K, h, w), and which pixels are valid (h, w)."""

    logits: Tensor
    valid: Tensor


class Parts(NamedTuple):
    """Columns of a strip, complete but for the seams above and below.

    Attributes:
        column: Which column of windows.
        col: Where the columns begin in the scene.
        top: The zone that the strip above shares; no rows where there is none.
        body: What no other strip sees, or has a say in.
        bottom: The zone that the strip below shares; its logits alone matter.
    """

    column: int
    col: int
    top: Seen
    body: Seen
    bottom: Seen


def weights(zone: int, device: torch.device | None = None) -> Tensor:
    """Return the next window's weights over a zone, which rise like a Hann window; the other's are 1 minus these."""
    steps = (torch.arange(zone, device=device) + 0.5) / max(zone, 1)
    return torch.sin(steps * torch.pi / 2) ** 2


def cross(earlier: Tensor, later: Tensor, dim: int) -> Tensor:
    """Fade from one window's logits to the next one's, along an axis.

    Args:
        earlier: Logits of the window that ends here, (K, h, w).
        later: Those of the window that begins here.
        dim: The axis, -1 or -2.
    """
    rising = weights(later.shape[dim], later.device)
    return torch.lerp(earlier.to(later.device), later, rising if dim == -1 else rising[:, None])


def strips(plan: ScenePlan, row: int, windows: Iterable[Seen]) -> Iterator[Parts]:
    """Blend a row of windows from left to right.

    Args:
        plan: The scene's.
        row: Which row of windows.
        windows: One a column, in order; the logits are changed.
    """
    before: Tensor | None = None
    piece = plan.rows[row]
    for column, ((left, right), seen) in enumerate(zip(plan.spans(), windows, strict=True)):
        start = plan.cols[column].start
        logits, valid = seen.logits[..., left - start : right - start], seen.valid[:, left - start : right - start]
        if before is not None:  # in place: a copy of a window takes as long as finding its classes
            logits[..., : plan.zone] = cross(before, logits[..., : plan.zone], -1)
        before = seen.logits[..., right - start : right - start + plan.zone].clone()
        yield Parts(column, left, *_split(plan, piece, Seen(logits, valid)))


def _split(plan: ScenePlan, piece: Piece, seen: Seen) -> Iterator[Seen]:
    """Cut the rows of a window into the zone above, the body and the zone below."""
    half, zone = plan.zone // 2, plan.zone
    top = piece.keep_start - half - piece.start if piece.keep_start else 0
    body = top + zone if piece.keep_start else 0
    last = piece.keep_stop == plan.height
    bottom = piece.keep_stop - piece.start if last else piece.keep_stop - half - piece.start
    for first, stop in ((top, body), (body, bottom), (bottom, bottom if last else bottom + zone)):
        yield Seen(seen.logits[:, first:stop], seen.valid[first:stop])
