"""Where in the data a checkpoint was written, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from satseg.errors import CheckpointError, ConfigError

KEY = "position"


class Position(pl.Callback):
    """Keeps epoch, batch and the epoch's mean loss so far: by itself Lightning starts a new pass over the data."""

    def __init__(self) -> None:
        self.resumed: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the position as plain data."""
        epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
        inside = epochs.started > epochs.processed
        own = [value.clone() for value in self._loss(pl_module)] if inside else []  # they are summed in place
        sums = [trainer.strategy.reduce(value, reduce_op="sum") for value in own]
        checkpoint[KEY] = {
            "epoch": epochs.processed,
            "batch": batches.processed if inside else 0,
            "loss": [float(value) for value in sums],
            "plan": self._plan(trainer),
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            CheckpointError: If the checkpoint has no position.
        """
        if KEY not in checkpoint:
            raise CheckpointError("The checkpoint is of an earlier version of satseg, from which no run can go on.")
        self.resumed = checkpoint[KEY]
        trainer.datamodule.start_at(self.resumed["epoch"], self.resumed["batch"])

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Take over the loss so far.

        Raises:
            ConfigError: If the rest of the epoch that was begun, or of the schedule, would be another one.
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
                f"The run was stopped inside an epoch, whose rest would be another one ({changed}): resume with the "
                "same numbers."
            )
        if changed and any(config.interval == "step" for config in trainer.lr_scheduler_configs):
            raise ConfigError(
                f"The learning rate follows the steps, of which an epoch would have others ({changed}): resume with "
                "the same numbers."
            )
        steps = int(trainer.estimated_stepping_batches) + 1
        if any(getattr(config.scheduler, "total_steps", steps) != steps for config in trainer.lr_scheduler_configs):
            raise ConfigError(
                "scheduler=onecycle is one cycle over all steps of the training, which would be others: resume with "
                "the same trainer.max_epochs, or train longer from its weights with init_from."
            )
        if inside and trainer.is_global_zero:  # the sums are those of all ranks
            for value, earlier in zip(self._loss(pl_module), self.resumed["loss"], strict=True):
                value.fill_(earlier)

    @staticmethod
    def _loss(pl_module: Any) -> tuple[Tensor, Tensor]:
        """Return the sum of the epoch's losses so far, and of their weights."""
        return pl_module.train_loss.mean_value, pl_module.train_loss.weight

    @staticmethod
    def _plan(trainer: Any) -> dict[str, int | None]:
        return {
            "batches an epoch": int(trainer.num_training_batches),
            "dataset.batch_size": getattr(trainer.datamodule, "batch_size", None),
            "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
            "number of devices": trainer.world_size,
        }
