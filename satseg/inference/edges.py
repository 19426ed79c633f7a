"""The seams of a strip, kept on disk until the strip below is there: memory stays flat, and a stopped run can go on."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from satseg.inference.plans import ScenePlan


class EdgeStore:
    """Logits of the zones between strips; those of the latest two strips.

    Args:
        folder: Where the files lie.
        plan: The scene's.
        num_classes: K.
    """

    def __init__(self, folder: Path, plan: ScenePlan, num_classes: int) -> None:
        self._paths = [folder / f"seam_{i}.bin" for i in (0, 1)]
        self._spans, self._zone, self._classes = list(plan.spans()), plan.zone, num_classes

    @property
    def num_bytes(self) -> int:
        """Size on disk, at most."""
        return 2 * self._bytes(self._spans[-1][1])

    def save(self, row: int, index: int, logits: Tensor) -> None:
        """Keep the lower zone (K, zone, w) of a strip's column of windows."""
        path = self._paths[row % 2]
        path.touch()
        with path.open("r+b") as file:
            file.seek(self._offset(index))
            file.write(logits.float().cpu().contiguous().numpy().tobytes())

    def load(self, row: int, index: int) -> Tensor:
        """Return what was kept for a strip and a column of windows."""
        left, right = self._spans[index]
        with self._paths[row % 2].open("rb") as file:
            file.seek(self._offset(index))
            data = bytearray(file.read(self._bytes(right - left)))
        return torch.frombuffer(data, dtype=torch.float32).view(self._classes, self._zone, right - left)

    def sync(self, row: int) -> None:
        """Make sure that a strip's zones are on the disk."""
        if self._paths[row % 2].exists():
            with self._paths[row % 2].open("rb") as file:
                os.fsync(file.fileno())

    def _offset(self, index: int) -> int:
        return self._bytes(self._spans[index][0])

    def _bytes(self, columns: int) -> int:
        return 4 * self._classes * self._zone * columns
