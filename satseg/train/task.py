"""The LightningModule of segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torchmetrics import MeanMetric

from satseg.evaluate.metrics import ConfusionMatrix, Scores
from satseg.evaluate.scoring import PROTOCOL, score_batch
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import save_model
from satseg.models.document import Document
from satseg.train.optimization import build_optimizer, build_scheduler
from satseg.train.sharding import ShardedStrategy

Batch = Mapping[str, Any]


class SegmentationTask(pl.LightningModule):
    """Trains a network on batches of `{"image", "mask", "valid"}`.

    Args:
        network: Maps raw images to logits.
        criterion: Called with logits (N, K, H, W), mask (N, H, W) and valid (N, H, W).
        optimizer: Options of the config group `optimizer`.
        scheduler: Options of the config group `scheduler`.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        criterion: nn.Module,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler
        self.confusion = ConfusionMatrix(network.spec.num_classes)
        self.train_loss = MeanMetric(nan_strategy="disable")  # a NaN loss must be noticed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the batch's valid pixels."""
        logits = self.network(batch["image"], batch["valid"])
        loss: Tensor = self.criterion(logits, batch["mask"], batch["valid"])
        self.train_loss.update(loss.detach(), weight=len(logits))
        self.log("train/loss", self.train_loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score whole images, in float32."""
        scored = score_batch(self.network, batch, self.criterion)
        self.confusion.update(scored.matrices)
        self.log("val/loss", scored.loss, batch_size=max(int(scored.pixels), 1), on_epoch=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log all scores derived from the split's confusion matrix."""
        scores = Scores.from_matrix(self.confusion.compute(), self.network.spec.class_names)
        self.confusion.reset()
        values = {f"val/{name}": value for name, value in scores.as_dict().items()}
        self.log_dict({name: value for name, value in values.items() if name != "val/miou"})
        self.log("val/miou", values["val/miou"], prog_bar=True)

    def configure_model(self) -> None:
        """Shard the network if the strategy requires it."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.shard(self.network)

    def configure_optimizers(self) -> Any:
        """Build optimizer and scheduler for the trainer's number of steps."""
        optimizer = build_optimizer(self.optimizer_config, self.network, fused=self._can_fuse())
        total = int(self.trainer.estimated_stepping_batches)
        epochs = max(self.trainer.max_epochs or 1, 1)
        scheduler = build_scheduler(self.scheduler_config, optimizer, total, max(total // epochs, 1))
        if scheduler is None:
            return optimizer
        if scheduler["interval"] == "epoch":  # it needs a score, which only validated epochs have
            scheduler["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _can_fuse(self) -> bool:
        """Return True if a fused optimizer works: on GPUs, unless Lightning must clip gradients before unscaling."""
        clips = bool(self.trainer.gradient_clip_val) and str(self.trainer.precision).endswith("mixed")
        return self.device.type == "cuda" and not clips

    def save_model(self, path: Path, training: Mapping[str, Any]) -> None:
        """Write the current weights as a model file, on rank zero; must be called on all ranks."""
        save_model(path, self.network, training=training, protocol=PROTOCOL, write=self.global_rank == 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description from which `load_model` rebuilds the network."""
        checkpoint["satseg"] = Document.of(self.network, {"epoch": self.current_epoch}, PROTOCOL).plain()
