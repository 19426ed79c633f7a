"""Class weights of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from satseg.errors import ConfigError


def class_weights(
    wanted: str | Sequence[float] | None, names: Sequence[str], counts: np.ndarray
) -> torch.Tensor | None:
    """Return weights (K,) for the loss: none, balanced by pixels, or as given.

    Args:
        wanted: `none`, `balanced`, or a number per class.
        names: Class names.
        counts: Training pixels per class.

    Raises:
        ConfigError: If the weights do not fit the classes.
    """
    if wanted is None or wanted == "none":
        return None
    if wanted == "balanced":
        shares = counts / counts.sum()
        weights = 1 / np.sqrt(np.maximum(shares, 1e-6))  # square root: inverse frequency would drown frequent classes
        return torch.tensor(weights / weights.mean(), dtype=torch.float32)
    fits = isinstance(wanted, list | tuple) and len(wanted) == len(names)
    if not fits or not all(isinstance(w, int | float) and w >= 0 for w in wanted):
        raise ConfigError(
            f"loss.class_weights={wanted}: expected none, balanced, or {len(names)} numbers for {', '.join(names)}."
        )
    return torch.tensor([float(w) for w in wanted], dtype=torch.float32)
