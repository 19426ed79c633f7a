"""The exponential moving average of weights, against an explicit formula."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import nn

from satseg.train.callbacks.averaging import ExponentialMovingAverage

STEPS = 64  # per epoch

Weights = dict[str, np.ndarray]


def weights(model: nn.Module) -> Weights:
    return {name: value.detach().double().numpy().copy() for name, value in model.state_dict().items()}


class RecordWeights(pl.Callback):
    """Records the weights after each step and those used in validation."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.scored: list[Weights] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.steps.append(weights(pl_module))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.scored.append(weights(pl_module))


def averaged(steps: list[Weights], decay: float) -> Weights:
    """Return the average: each step keeps 2/11, 3/12, 4/13 … of it, at most `decay`."""
    average = dict(steps[0])
    for number, step in enumerate(steps[1:], start=2):
        kept = min(decay, number / (number + 9))
        for name, value in step.items():
            average[name] = value if name.endswith("tracked") else kept * average[name] + (1 - kept) * value
    return average


@pytest.mark.parametrize("decay", [0.999, 0.6])
def test_validation_and_final_weights_are_averages_with_increasing_decay(decay: float) -> None:
    torch.manual_seed(0)
    model, recorded = BoringModel(), RecordWeights()
    model.layer = nn.Sequential(nn.Linear(32, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))  # type: ignore[assignment]
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    callbacks = [recorded, ExponentialMovingAverage(decay)]
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, limit_val_batches=1, callbacks=callbacks, **quiet
    )
    loader = torch.utils.data.DataLoader(torch.randn(2 * STEPS, 32), batch_size=2)
    trainer.fit(model, loader, loader)
    assert (len(recorded.steps), len(recorded.scored)) == (2 * STEPS, 2)
    for found, steps in ((recorded.scored[0], STEPS), (recorded.scored[1], 2 * STEPS), (weights(model), 2 * STEPS)):
        expected = averaged(recorded.steps[:steps], decay)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    last = recorded.steps[-1]
    assert max(np.abs(weights(model)[name] - last[name]).max() for name in last) > 1e-3
