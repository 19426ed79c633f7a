"""Interrupting training with SIGINT."""

import contextlib
import signal
from collections.abc import Iterator

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from satseg.train.callbacks.stopping import StopOnInterrupt


class SwallowsInterrupt(BoringModel):
    """A model that interrupts itself in each step and drops the KeyboardInterrupt."""

    batches = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.batches += 1
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return super().training_step(batch, batch_idx)


@pytest.fixture(autouse=True)
def _restore_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def trainer() -> pl.Trainer:
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    return pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[StopOnInterrupt()], **quiet)


def test_an_interrupt_swallowed_by_a_library_still_ends_training_before_the_next_batch() -> None:
    model = SwallowsInterrupt()
    with pytest.raises(SystemExit):
        trainer().fit(model)
    assert model.batches == 1


def test_the_signal_handler_is_restored_after_training() -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer().fit(BoringModel())
    assert signal.getsignal(signal.SIGINT) is before
