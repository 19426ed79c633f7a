"""Checkpoint I/O for Lightning: atomic writes, and reads that execute no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from satseg.errors import CheckpointError, DivergedError, ResourceError
from satseg.files import atomic_path
from satseg.models.finite import nonfinite_tensor
from satseg.models.torch_file import read_torch_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves checkpoints atomically; loads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; if this fails or is killed, the previous file remains.

        Raises:
            DivergedError: If a weight is not finite, as no run could resume from it.
            ResourceError: If it cannot be written.
        """
        nonfinite = self._not_finite(checkpoint)
        if nonfinite is not None:
            raise DivergedError(f"{path} was not written: {nonfinite} holds values that are not finite.")
        try:
            with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch wraps errors of the system
            if not isinstance(error.__context__, OSError):
                raise
            raise ResourceError(f"{path} cannot be written: {error.__context__.strerror}.") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            CheckpointError: If it is corrupt, or holds other objects or weights that are not finite.
        """
        loaded: dict[str, Any] = read_torch_file(Path(path), map_location or "cpu")
        nonfinite = self._not_finite(loaded)
        if nonfinite is not None:
            raise CheckpointError(
                f"{path} is from a run that has diverged: {nonfinite} has values that are not finite."
            )
        return loaded

    @staticmethod
    def _not_finite(checkpoint: dict[str, Any]) -> str | None:
        """Return the name of a weight or averaged weight that is not finite; None if all are."""
        parts = (checkpoint.get(key) or {} for key in ("state_dict", "current_model_state"))
        return next((name for part in parts if (name := nonfinite_tensor(part)) is not None), None)
