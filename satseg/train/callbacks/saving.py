"""Checkpoints for resuming, written also within epochs and before the system stops the run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from satseg import signals
from satseg.train.callbacks.finite import check_finite

SYNC_STEPS = 8  # optimizer steps between reductions over all ranks, each of which synchronises CPU and GPU
PRE_SCORING_S = 60.0  # training that may be lost if the run is stopped during validation


class SaveLast(pl.callbacks.Checkpoint):
    """Writes a checkpoint after each epoch, every few minutes, and when the system asks the run to stop.

    Within an epoch it saves only after optimizer steps, as checkpoints do not hold accumulated gradients, and not after
    the last batch, as the scores of the epoch would be missing; it may save one step before instead. It must be the
    last callback, so that the states of all others are up to date.

    Args:
        path: The file to write.
        every_min: Minutes between checkpoints.
    """

    def __init__(self, path: Path, every_min: float) -> None:
        self.path, self.every_s = path, every_min * 60
        self.saved = time.monotonic()
        self.has_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.saved = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop between epochs if requested; the previous one is saved."""
        self._stop_if_requested(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if due or if a stop is requested; create the folder with the first step, as a sign of progress."""
        if not self.has_begun and trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.has_begun = True
        steps, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if trainer.is_last_batch or rest:
            return
        last_chance = trainer.num_training_batches - (batch_idx + 1) <= trainer.accumulate_grad_batches
        if steps % SYNC_STEPS and trainer.world_size > 1 and not last_chance:
            return
        due = time.monotonic() - self.saved > (min(self.every_s, PRE_SCORING_S) if last_chance else self.every_s)
        if not self._any(trainer, due or signals.stop_requested()):
            return
        self._save(trainer)
        self._stop_if_requested(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop validation, which may take longer than the system waits; StopIteration ends Lightning's loop."""
        if signals.stop_requested():
            raise StopIteration

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the scores are used; all ranks get here, whatever their number of batches."""
        self._stop_if_requested(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        check_finite(trainer, trainer.lightning_module)  # else the last good checkpoint would be lost
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._save(trainer)

    @staticmethod
    def _any(trainer: pl.Trainer, wanted: bool) -> bool:
        """Return True if the condition holds on any rank, as all must act alike."""
        return wanted if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        if self._any(trainer, signals.stop_requested()):
            signals.stop(cancelled=self._any(trainer, signals.is_cancelled()))
