"""Lightning's checkpoints, written whole or not at all, and read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from satseg.errors import CheckpointError, ResourceError
from satseg.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves through a temporary file in the same folder; loads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; a full disk or a kill leaves the older file.

        Raises:
            ResourceError: If it cannot be written.
        """
        try:
            with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # in which torch wraps the system's
            if not isinstance(error.__context__, OSError):
                raise
            raise ResourceError(f"{path} cannot be written: {error.__context__.strerror}.") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            CheckpointError: If it is broken or holds more than tensors and plain data.
        """
        try:
            loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # an unpickler refuses in many ways
            raise CheckpointError(f"{path} is broken, or holds more than tensors and plain data.") from error
        return loaded
