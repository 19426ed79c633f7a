"""Check across ranks that weights are finite."""

from __future__ import annotations

import pytorch_lightning as pl

from satseg.errors import DivergedError
from satseg.models.finite import nonfinite_tensor

ADVICE = "lower optimizer.lr, set trainer.gradient_clip_val=1, or look for corrupt pixels in the data."


def all_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    """Return True if weights and batch statistics are finite on all ranks; must be called on all of them."""
    own = nonfinite_tensor(pl_module.state_dict()) is None
    return own if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(own, all=True))


def check_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Check that all weights are finite; must be called on all ranks.

    Raises:
        DivergedError: If some are not, as no later step would recover.
    """
    if not all_finite(trainer, pl_module):
        raise DivergedError(f"Weights are no longer finite in epoch {trainer.current_epoch}: {ADVICE}")
