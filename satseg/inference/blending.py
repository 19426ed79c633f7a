"""Blending of neighbouring windows, so that no seam shows and memory does not grow with the scene.

At a seam both windows contribute, within a zone as wide as their overlap, with weights that sum to 1. The axes are
blended separately and no more than two terms meet at any pixel, so the sum does not depend on the order of the windows.
Seams between strips are kept on disk until the strip below is computed, so that a stopped run can resume.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from satseg.inference.windows import Piece, ScenePlan


class WindowLogits(NamedTuple):
    """The network's output for one window: logits (K, h, w) and the valid pixels (h, w)."""

    logits: Tensor
    valid: Tensor


class BlendedColumns(NamedTuple):
    """Columns of a strip, final except for the seams above and below.

    Attributes:
        column: Index of the column of windows.
        col: First column in the scene.
        top: The zone shared with the strip above; no rows where there is none.
        body: The rows that no other strip contributes to.
        bottom: The zone shared with the strip below; only its logits are used.
    """

    column: int
    col: int
    top: WindowLogits
    body: WindowLogits
    bottom: WindowLogits


def fade_weights(zone: int, device: torch.device | None = None) -> Tensor:
    """Return the later window's weights over a zone, rising like a Hann window; the earlier one's are 1 minus these."""
    steps = (torch.arange(zone, device=device) + 0.5) / max(zone, 1)
    return torch.sin(steps * torch.pi / 2) ** 2


def crossfade(earlier: Tensor, later: Tensor, dim: int) -> Tensor:
    """Fade from one window's logits to the next one's, along an axis.

    Args:
        earlier: Logits of the window that ends here, (K, h, w).
        later: Logits of the window that begins here.
        dim: The axis, -1 or -2.
    """
    rising = fade_weights(later.shape[dim], later.device)
    return torch.lerp(earlier.to(later.device), later, rising if dim == -1 else rising[:, None])


def blend_row(plan: ScenePlan, row: int, windows: Iterable[WindowLogits]) -> Iterator[BlendedColumns]:
    """Blend a row of windows from left to right.

    Args:
        plan: Windows of the scene.
        row: Index of the row of windows.
        windows: One per column, in order; their logits are modified in place.
    """
    previous: Tensor | None = None
    piece = plan.rows[row]
    for column, ((left, right), seen) in enumerate(zip(plan.spans(), windows, strict=True)):
        start = plan.cols[column].start
        logits, valid = seen.logits[..., left - start : right - start], seen.valid[:, left - start : right - start]
        if previous is not None:  # in place: a copy of a window takes as long as finding its classes
            logits[..., : plan.zone] = crossfade(previous, logits[..., : plan.zone], -1)
        previous = seen.logits[..., right - start : right - start + plan.zone].clone()
        yield BlendedColumns(column, left, *_split(plan, piece, WindowLogits(logits, valid)))


def _split(plan: ScenePlan, piece: Piece, seen: WindowLogits) -> Iterator[WindowLogits]:
    """Cut the rows of a window into the zone above, the body and the zone below."""
    half, zone = plan.zone // 2, plan.zone
    top = piece.keep_start - half - piece.start if piece.keep_start else 0
    body = top + zone if piece.keep_start else 0
    last = piece.keep_stop == plan.height
    bottom = piece.keep_stop - piece.start if last else piece.keep_stop - half - piece.start
    for first, stop in ((top, body), (body, bottom), (bottom, bottom if last else bottom + zone)):
        yield WindowLogits(seen.logits[:, first:stop], seen.valid[first:stop])


class SeamStore:
    """Logits of the seams of the latest two strips, on disk.

    Args:
        folder: Folder for the files.
        plan: Windows of the scene.
        num_classes: K.
    """

    def __init__(self, folder: Path, plan: ScenePlan, num_classes: int) -> None:
        self._paths = [folder / f"seam_{i}.bin" for i in (0, 1)]
        self._spans, self._zone, self._classes = list(plan.spans()), plan.zone, num_classes

    @property
    def num_bytes(self) -> int:
        """Maximum size on disk."""
        return 2 * self._bytes(self._spans[-1][1])

    def save(self, row: int, index: int, logits: Tensor) -> None:
        """Write the lower zone (K, zone, w) of a column of windows in a strip."""
        path = self._paths[row % 2]
        path.touch()
        with path.open("r+b") as file:
            file.seek(self._offset(index))
            file.write(logits.float().cpu().contiguous().numpy().tobytes())

    def load(self, row: int, index: int) -> Tensor:
        """Read the zone that was saved for a column of windows in a strip."""
        left, right = self._spans[index]
        with self._paths[row % 2].open("rb") as file:
            file.seek(self._offset(index))
            data = bytearray(file.read(self._bytes(right - left)))
        return torch.frombuffer(data, dtype=torch.float32).view(self._classes, self._zone, right - left)

    def sync(self, row: int) -> None:
        """Flush a strip's zones to the disk."""
        if self._paths[row % 2].exists():
            with self._paths[row % 2].open("rb") as file:
                os.fsync(file.fileno())

    def _offset(self, index: int) -> int:
        return self._bytes(self._spans[index][0])

    def _bytes(self, columns: int) -> int:
        return 4 * self._classes * self._zone * columns
