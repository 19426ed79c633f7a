"""The checkpoint to go on from: written while an epoch runs, too, and before the system ends the run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from satseg import signals
from satseg.train.callbacks.finite import check_finite

SYNC_STEPS = 8  # between two questions to all ranks, each of which makes the processor wait for the devices
PRE_SCORING_S = 60.0  # of training that may be lost where the run ends while an epoch is scored


class SaveLast(pl.callbacks.Checkpoint):
    """Writes a checkpoint after each epoch, every few minutes, and where the system asks the run to end.

    Inside an epoch only after a step of the optimiser, as gradients that wait for one are in no checkpoint; and not
    after the last batch, as the scores that follow would be missing: so the step before it has one, too. It stands
    behind all other callbacks, so that their states are those of the same moment.

    Args:
        path: The file to write.
        every_min: Minutes between two of them.
    """

    def __init__(self, path: Path, every_min: float) -> None:
        self.path, self.every_s = path, every_min * 60
        self.saved = time.monotonic()
        self.is_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from here."""
        self.saved = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End between two epochs: the one before has been saved."""
        self._stop_if_requested(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, or where the run is to end; with the first step make the folder, which tells of it."""
        if not self.is_begun and trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.is_begun = True
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
        """Score no more, as that may take longer than the system waits; StopIteration ends Lightning's loop."""
        if signals.stop_requested():
            raise StopIteration

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End before the scores are anyone's: here all ranks meet, which have numbers of batches of their own."""
        self._stop_if_requested(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        check_finite(trainer, trainer.lightning_module)  # else the last one to go on from would be lost
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._save(trainer)

    @staticmethod
    def _any(trainer: pl.Trainer, wanted: bool) -> bool:
        """Tell whether any rank wants it, as all must do the same."""
        return wanted if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        if self._any(trainer, signals.stop_requested()):
            signals.stop(cancelled=self._any(trainer, signals.is_cancelled()))
