"""Progress of training as lines of text, for log files."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import pytorch_lightning as pl

from satseg.progress import Progress, duration
from satseg.train.callbacks.records import MetricsCsv

logger = logging.getLogger(__name__)

RECENT = 5  # epochs from which the remaining time is estimated


class EpochLines(pl.Callback):
    """Logs loss, score, duration and time left of each epoch, and progress once a minute within long epochs.

    With a progress bar in a terminal the lines go to the log file only; see `satseg.train.start.set_up_logging`.

    Args:
        metrics: Provides the metrics of each epoch; must precede this in the list of callbacks.
        monitor: The score to log; higher is better.
        every: Epochs between lines.
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
        """Log the progress of a long epoch."""
        if self.progress:
            self.progress.add()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the result of the epoch."""
        number, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        if number % self.every and number != last and not trainer.should_stop:
            return
        rows = self.metrics.rows
        parts = [f"train loss {rows[-1]['train/loss']:.4f}"]
        if self.monitor in rows[-1]:
            parts.append(f"{self.monitor} {rows[-1][self.monitor]:.4f}")
            parts += self._best(rows)
        recent = [row["seconds"] for row in rows[-RECENT:] if row.get("seconds")]
        parts.append(duration(rows[-1]["seconds"]))
        if recent and number < last and not trainer.should_stop:
            parts.append(f"about {duration(sum(recent) / len(recent) * (last - number))} left")
        self._log(f"{self.epochs}: {', '.join(parts)}")

    def _best(self, rows: list[dict[str, Any]]) -> list[str]:
        """Return the earlier epoch with a better score, if any."""
        scored = [
            row for row in rows if not math.isnan(math.nan if row.get(self.monitor) is None else row[self.monitor])
        ]
        best = max(scored, key=lambda row: row[self.monitor], default=rows[-1])
        return [] if best is rows[-1] else [f"best {best[self.monitor]:.4f} in epoch {best['epoch'] + 1}"]
