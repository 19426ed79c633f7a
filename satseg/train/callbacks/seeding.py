"""Seeding by step, so that a resumed run draws the same random numbers as an uninterrupted one."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch


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
