"""Whether a training still has numbers for weights, on which all devices agree."""

from __future__ import annotations

import pytorch_lightning as pl

from satseg.errors import DivergedError
from satseg.models.finite import nonfinite_tensor

ADVICE = "lower optimizer.lr, set trainer.gradient_clip_val=1, or look for broken pixels in the data."


def all_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    """Tell whether all weights and batch statistics are finite on all devices; all of them must ask."""
    own = nonfinite_tensor(pl_module.state_dict()) is None
    return own if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(own, all=True))


def check_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Go on only with finite weights; all devices must ask.

    Raises:
        DivergedError: If some are not: no later step would mend them.
    """
    if not all_finite(trainer, pl_module):
        raise DivergedError(f"Weights are no longer finite in epoch {trainer.current_epoch}: {ADVICE}")
