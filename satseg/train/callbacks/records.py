"""Records that every run writes during training: metrics.csv, throughput, and the best weights as model file."""

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
from satseg.losses import WeightedSum
from satseg.models.finite import nonfinite_tensor
from satseg.runs import read_metrics
from satseg.train.task import SegmentationTask

ADVICE = "lower optimizer.lr, set trainer.gradient_clip_val=1, or look for corrupt pixels in the data."


def all_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    """Return True if weights and batch statistics are finite on all ranks; must be called on all of them."""
    own = nonfinite_tensor(pl_module.state_dict()) is None
    return own if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(own, all=True))


def check_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Check that all weights are finite; must be called on all ranks.

    Raises:
        DivergedError: If some are not, as no later step would recover.
    """
    if not all_finite(trainer, pl_module):
        raise DivergedError(f"Weights are no longer finite in epoch {trainer.current_epoch}: {ADVICE}")


def _first_nonfinite(pl_module: pl.LightningModule) -> str:
    """Name the terms of the loss that diverged first; empty if all did at once."""
    criterion = getattr(pl_module, "criterion", None)
    if not isinstance(criterion, WeightedSum):
        return ""
    names = [f"loss.terms.{name}" for name in criterion.nonfinite_terms()]
    return f" (first {' and '.join(names)})" if 0 < len(names) < len(criterion.terms) else ""


class MetricsCsv(pl.Callback):
    """Writes a row per epoch to metrics.csv; a resumed run drops the rows after its checkpoint.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.last_scored = -1
        self.clock = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the rows of completed epochs."""
        rows = read_metrics(self.path) if self.path.exists() else []
        whole = [r | {"epoch": int(r["epoch"]), "step": int(r["step"])} for r in rows]
        self.rows = [r for r in whole if r["epoch"] < trainer.current_epoch]
        self.clock = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch of the scores, as Lightning keeps them through epochs without validation."""
        if not trainer.sanity_checking:
            self.last_scored = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row.

        Raises:
            DivergedError: If the loss or a weight is not finite, as no later epoch would recover.
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
            loss = f"train/loss{_first_nonfinite(pl_module)}"
            raise DivergedError(f"{loss} is {metrics['train/loss']} after epoch {trainer.current_epoch}: {ADVICE}")
        check_finite(trainer, pl_module)


class Throughput(pl.Callback):
    """Logs `train/images_per_second`, including data loading, and the peak memory as `train/memory_gb`."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a resumed run may start within an epoch."""
        self.start, self.images = time.perf_counter(), 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images; log the throughput at the last batch, before validation."""
        self.images += len(batch["image"]) * trainer.world_size
        if trainer.is_last_batch:
            speed = self.images / (time.perf_counter() - self.start)
            pl_module.log("train/images_per_second", speed, on_step=False, on_epoch=True, batch_size=1)
            pl_module.log(
                "train/memory_gb", peak_memory_gb(pl_module.device), on_step=False, on_epoch=True, batch_size=1
            )


class BestModelFile(pl.Callback):
    """Writes model.safetensors whenever the monitored score improves, so that a crash leaves the best model.

    It must precede `ExponentialMovingAverage` in the list of callbacks, while the averaged weights are in place.

    Args:
        path: The file to write.
        monitor: The score to watch; higher is better.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.path, self.monitor = path, monitor
        self.best = -math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file if the score has improved or there is no file yet, and all weights are finite."""
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationTask):
            return
        score = float(trainer.callback_metrics[self.monitor])
        better = score > self.best or (self.best == -math.inf and not self.path.exists())
        if better and all_finite(trainer, pl_module):
            self.best = max(self.best, score)
            pl_module.save_model(self.path, {"epoch": trainer.current_epoch, self.monitor: score})

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score so far."""
        self.best = state_dict["best"]
