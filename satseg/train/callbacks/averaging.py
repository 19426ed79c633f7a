"""Exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging


class ExponentialMovingAverage(WeightAveraging):
    """Validates, saves and finishes with averaged weights.

    The decay grows from 0.18 to `decay` over the first steps, so that random initial weights do not hold
    back a short run (as in TensorFlow's `ExponentialMovingAverage` with `num_updates`).

    Args:
        decay: Weight of the previous average in each step, after the warm-up.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, num_averaged: Any) -> None:
        steps = int(num_averaged)
        weight = 1 - min(self.decay, (1 + steps) / (10 + steps))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(list(averaged), list(current), weight)
        else:  # counters, such as batch norm's number of batches
            torch._foreach_copy_(list(averaged), list(current))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the averaged weights in place until the model file has been written."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the training weights."""
        super().on_validation_epoch_end(trainer, pl_module)
