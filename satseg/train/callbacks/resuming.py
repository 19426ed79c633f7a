"""Resuming: checkpoints also within epochs, and a resumed run that continues like an uninterrupted one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from satseg import signals
from satseg.errors import CheckpointError, ConfigError
from satseg.train.callbacks.records import check_finite

KEY = "position"  # in checkpoints
SYNC_STEPS = 8  # optimizer steps between reductions over all ranks, each of which synchronises CPU and GPU
PRE_SCORING_S = 60.0  # training that may be lost if the run is stopped during validation


class SeedBatches(pl.Callback):
    """Seeds torch before every training batch from (seed, rank, step): dropout and drop path repeat exactly.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for the next batch."""
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(hash((self.seed, trainer.global_rank, step)))


class Position(pl.Callback):
    """Saves epoch, batch and the epoch's mean loss so far; without it Lightning would restart the epoch."""

    def __init__(self) -> None:
        self.resumed: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the position as plain data."""
        epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
        inside = epochs.started > epochs.processed
        own = [value.clone() for value in self._loss(pl_module)] if inside else []  # reduce sums in place
        sums = [trainer.strategy.reduce(value, reduce_op="sum") for value in own]
        checkpoint[KEY] = {
            "epoch": epochs.processed,
            "batch": batches.processed if inside else 0,
            "loss": [float(value) for value in sums],
            "plan": self._plan(trainer),
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the position.

        Raises:
            CheckpointError: If the checkpoint has no position.
        """
        if KEY not in checkpoint:
            raise CheckpointError(
                "The checkpoint is from an earlier version of satseg, from which runs cannot be resumed."
            )
        self.resumed = checkpoint[KEY]
        trainer.datamodule.start_at(self.resumed["epoch"], self.resumed["batch"])

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Restore the loss so far.

        Raises:
            ConfigError: If the options would change the rest of the interrupted epoch or of the schedule.
        """
        if not self.resumed:
            return
        before, now = self.resumed["plan"], self._plan(trainer)
        changed = "; ".join(
            f"{name} was {before[name]} and is {now[name]}" for name in now if now[name] != before[name]
        )
        inside = self.resumed["batch"] > 0
        if changed and inside:
            raise ConfigError(
                f"The run was stopped within an epoch, the rest of which would change ({changed}): resume with the "
                "same values."
            )
        if changed and any(config.interval == "step" for config in trainer.lr_scheduler_configs):
            raise ConfigError(
                f"The learning rate is scheduled by step, and the steps per epoch would change ({changed}): resume "
                "with the same values."
            )
        steps = int(trainer.estimated_stepping_batches) + 1
        if any(getattr(config.scheduler, "total_steps", steps) != steps for config in trainer.lr_scheduler_configs):
            raise ConfigError(
                "scheduler=onecycle is one cycle over all training steps, the number of which would change: resume "
                "with the same trainer.max_epochs, or train longer from its weights with init_from."
            )
        if inside and trainer.is_global_zero:  # the sums are over all ranks
            for value, earlier in zip(self._loss(pl_module), self.resumed["loss"], strict=True):
                value.fill_(earlier)

    @staticmethod
    def _loss(pl_module: Any) -> tuple[Tensor, Tensor]:
        """Return the sums of the epoch's losses so far and of their weights."""
        return pl_module.train_loss.mean_value, pl_module.train_loss.weight

    @staticmethod
    def _plan(trainer: Any) -> dict[str, int | None]:
        return {
            "batches an epoch": int(trainer.num_training_batches),
            "dataset.batch_size": getattr(trainer.datamodule, "batch_size", None),
            "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
            "number of devices": trainer.world_size,
        }


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
