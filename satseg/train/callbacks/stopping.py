"""Reliable handling of Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class StopOnInterrupt(pl.Callback):
    """Stops training on Ctrl-C, even if Python drops the exception in a destructor or a library's callback."""

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Install the handler, in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Raise a dropped KeyboardInterrupt again."""
        if self.interrupted:
            raise KeyboardInterrupt

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int, dataloader_idx: int = 0
    ) -> None:
        """Raise a dropped KeyboardInterrupt again."""
        self.on_train_batch_start(trainer, pl_module, batch, index)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the previous handler."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
