"""Position in the data at a checkpoint, so that a resumed run continues like an uninterrupted one."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from satseg.errors import CheckpointError, ConfigError

KEY = "position"


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
