"""What every run writes while it trains: metrics.csv, the speed, and the best weights as the model file."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from satseg.devices import peak_memory_gb
from satseg.errors import DivergedError
from satseg.files import write_text
from satseg.runs import read_metrics
from satseg.train.callbacks.finite import ADVICE, all_finite, check_finite
from satseg.train.task import SegmentationTask


class MetricsCsv(pl.Callback):
    """One row an epoch in metrics.csv; a resumed run drops the rows past the epoch it goes on from.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.last_scored = -1
        self.clock = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of the epochs that are done."""
        rows = read_metrics(self.path) if self.path.exists() else []
        whole = [r | {"epoch": int(r["epoch"]), "step": int(r["step"])} for r in rows]
        self.rows = [r for r in whole if r["epoch"] < trainer.current_epoch]
        self.clock = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which epoch the scores belong to: Lightning keeps them for the epochs that are not scored."""
        if not trainer.sanity_checking:
            self.last_scored = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row.

        Raises:
            DivergedError: If the loss or a weight is no longer a number: no later epoch would mend it.
        """
        kinds = ("train/", "val/") if self.last_scored == trainer.current_epoch else ("train/",)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(kinds)}
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        before, self.clock = self.clock, time.perf_counter()
        record = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate}
        self.rows.append(record | {"seconds": self.clock - before} | metrics)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        if trainer.is_global_zero:
            write_text(self.path, text.getvalue())
        if not math.isfinite(metrics["train/loss"]):
            raise DivergedError(f"train/loss is {metrics['train/loss']} after epoch {trainer.current_epoch}: {ADVICE}")
        check_finite(trainer, pl_module)


class Throughput(pl.Callback):
    """Logs `train/images_per_second`, the time for waiting for data included, and the peak of `train/memory_gb`."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, also inside an epoch that was begun before."""
        self.start, self.images = time.perf_counter(), 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock anew."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and log the speed with the last batch, before validation begins."""
        self.images += len(batch["image"]) * trainer.world_size
        if trainer.is_last_batch:
            speed = self.images / (time.perf_counter() - self.start)
            pl_module.log("train/images_per_second", speed, on_step=False, on_epoch=True, batch_size=1)
            pl_module.log(
                "train/memory_gb", peak_memory_gb(pl_module.device), on_step=False, on_epoch=True, batch_size=1
            )


class BestModelFile(pl.Callback):
    """Writes model.safetensors whenever the monitored score rises, so that a crash leaves the best model.

    It stands before `ExponentialMovingAverage` in the list of callbacks: the averaged weights are in place then.

    Args:
        path: The file to write.
        monitor: The score to watch; higher is better.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.path, self.monitor = path, monitor
        self.best = -math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file if the score has risen, or if there is none yet; never of weights that are not finite."""
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationTask):
            return
        score = float(trainer.callback_metrics[self.monitor])
        better = score > self.best or (self.best == -math.inf and not self.path.exists())
        if better and all_finite(trainer, pl_module):
            self.best = max(self.best, score)
            pl_module.save_model(self.path, {"epoch": trainer.current_epoch, self.monitor: score})

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, for resuming."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best score so far."""
        self.best = state_dict["best"]
