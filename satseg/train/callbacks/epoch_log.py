"""Lines of text that show how training goes, where the output is a file and no bar can."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import pytorch_lightning as pl

from satseg.progress import Progress, duration
from satseg.train.callbacks.records import MetricsCsv

logger = logging.getLogger(__name__)

RECENT = 5  # epochs, by which the time left is reckoned


class EpochLines(pl.Callback):
    """Logs a line an epoch: loss, score, seconds and time left; and one a minute within an epoch that takes longer.

    With a progress bar in a terminal the lines go to the log file only; see `satseg.train.start.set_up_logging`.

    Args:
        metrics: Has the numbers of each epoch; it stands before this in the list of callbacks.
        monitor: The score to tell; higher is better.
        every: Epochs from one line to the next.
    """

    def __init__(self, metrics: MetricsCsv, monitor: str, every: int = 1) -> None:
        self.metrics, self.monitor, self.every = metrics, monitor, every
        self.in_bar = False
        self.epochs = ""
        self.progress: Progress | None = None

    def _log(self, line: str) -> None:
        logger.info("%s", line, extra={"in_bar": self.in_bar})

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self.in_bar = trainer.progress_bar_callback is not None and sys.stderr.isatty()
        self.epochs = f"Epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self.progress = Progress(f"{self.epochs}, training", trainer.num_training_batches, "batches", self._log)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the epoch is, if it takes long."""
        if self.progress:
            self.progress.add()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how the epoch went."""
        number, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        if number % self.every and number != last and not trainer.should_stop:
            return
        rows = self.metrics.rows
        told = [f"train loss {rows[-1]['train/loss']:.4f}"]
        if self.monitor in rows[-1]:
            told.append(f"{self.monitor} {rows[-1][self.monitor]:.4f}")
            told += self._best(rows)
        recent = [row["seconds"] for row in rows[-RECENT:] if row.get("seconds")]
        told.append(duration(rows[-1]["seconds"]))
        if recent and number < last and not trainer.should_stop:
            told.append(f"about {duration(sum(recent) / len(recent) * (last - number))} left")
        self._log(f"{self.epochs}: {', '.join(told)}")

    def _best(self, rows: list[dict[str, Any]]) -> list[str]:
        """Say which earlier epoch was better, if any was."""
        scored = [
            row for row in rows if not math.isnan(math.nan if row.get(self.monitor) is None else row[self.monitor])
        ]
        best = max(scored, key=lambda row: row[self.monitor], default=rows[-1])
        return [] if best is rows[-1] else [f"best {best[self.monitor]:.4f} in epoch {best['epoch'] + 1}"]
