"""The checkpoint to go on from: written while an epoch runs, too, and before the system ends the run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from satseg.errors import InterruptedRunError

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the second is what a Slurm job asks for with --signal=USR1@300
AGREE_STEPS = 8  # between two questions to all ranks, each of which makes the processor wait for the devices


class SaveLast(pl.callbacks.Checkpoint):
    """Writes a checkpoint after each epoch, every few minutes, and where a signal asks the run to end.

    Inside an epoch only after a step of the optimiser, as gradients that wait for one are in no checkpoint; and not
    after the last batch, as the scores that follow would be missing. Slurm is asked to start the job again. It stands
    behind all other callbacks, so that their states are those of the same moment.

    Args:
        path: The file to write.
        every_min: Minutes between two of them.
    """

    def __init__(self, path: Path, every_min: float) -> None:
        self.path, self.every_s = path, every_min * 60
        self.saved = time.monotonic()
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, in place of Lightning, which would wait for the epoch's end; only the main thread may."""
        self.saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End between two epochs: the one before has been saved."""
        if self._any(trainer, self.received is not None):
            self._end(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, or where the run is to end."""
        steps, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if trainer.is_last_batch or rest or steps % (1 if trainer.world_size == 1 else AGREE_STEPS):
            return
        due = time.monotonic() - self.saved > self.every_s
        if not self._any(trainer, due or self.received is not None):
            return
        self._save(trainer)
        if self._any(trainer, self.received is not None):
            self._end(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._save(trainer)

    @staticmethod
    def _any(trainer: pl.Trainer, wanted: bool) -> bool:
        """Tell whether any rank wants it, as all must do the same."""
        return wanted if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))

    def _end(self, trainer: pl.Trainer) -> None:
        job = os.environ.get("SLURM_JOB_ID")
        if job and trainer.is_global_zero and self.received != signal.SIGTERM:
            _requeue(job)
        raise InterruptedRunError("The system asked the run to end.")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the signals as they were."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def _requeue(job: str) -> None:
    """Ask Slurm to start the job again."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("Slurm could not be asked to start job %s again: %s", job, getattr(error, "stderr", "") or error)
        return
    logger.info("Slurm was asked to start job %s again.", job)
