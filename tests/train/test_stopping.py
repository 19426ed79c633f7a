import contextlib
import signal
from collections.abc import Iterator

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from satseg.train.callbacks.stopping import StopOnInterrupt


class Deaf(BoringModel):
    """A library that is interrupted and does not say so."""

    batches = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.batches += 1
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return super().training_step(batch, batch_idx)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def trainer() -> pl.Trainer:
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    return pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[StopOnInterrupt()], **quiet)


def test_an_interruption_that_a_library_drops_still_ends_training_before_the_next_batch() -> None:
    model = Deaf()
    with pytest.raises(SystemExit):
        trainer().fit(model)
    assert model.batches == 1


def test_the_signal_is_as_before_once_training_is_over() -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer().fit(BoringModel())
    assert signal.getsignal(signal.SIGINT) is before
