"""NaN and infinite weights never replace finite ones in the files of a run."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from satseg.errors import CheckpointError, DivergedError
from satseg.losses import WeightedSum
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model
from satseg.models.finite import nonfinite_tensor
from satseg.spec import DatasetSpec, InputSpec
from satseg.train.callbacks.checkpoint_io import AtomicCheckpointIO
from satseg.train.callbacks.records import BestModelFile, MetricsCsv
from satseg.train.callbacks.resuming import SaveLast
from satseg.train.task import SegmentationTask

SPEC = DatasetSpec(
    (InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3),), ("a", "b"), ((0, 0, 0), (1, 1, 1))
)
CONFIG = {
    "_target_": MODELS["unet"],
    "encoder_name": "tu-test_efficientnet",
    "encoder_weights": "none",
    "decoder_channels": [16, 16, 8, 8, 8],
}


@pytest.fixture
def task() -> SegmentationTask:
    return SegmentationTask(build_model(CONFIG, SPEC), nn.Identity(), {}, {})


def trainer(task: SegmentationTask, epoch: int, score: float, path: Path | None = None) -> Any:
    def save(target: Path) -> None:
        AtomicCheckpointIO().save_checkpoint({"state_dict": task.state_dict(), "epoch": epoch}, target)

    return SimpleNamespace(
        sanity_checking=False,
        callback_metrics={"val/miou": torch.tensor(score)},
        world_size=1,
        current_epoch=epoch,
        lightning_module=task,
        save_checkpoint=save,
    )


def set_statistic(task: SegmentationTask, number: float) -> None:
    """Set one running variance to a number."""
    next(b for name, b in task.network.named_buffers() if name.endswith("running_var"))[0] = number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_the_last_finite_model_and_checkpoint_are_kept_when_training_diverges(
    number: float, task: SegmentationTask, tmp_path: Path
) -> None:
    best, last = BestModelFile(tmp_path / "model.safetensors", "val/miou"), SaveLast(tmp_path / "last.ckpt", 5)
    for epoch, score in ((0, 0.5), (1, 0.9)):
        if epoch == 1:
            before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            set_statistic(task, number)
        best.on_validation_end(trainer(task, epoch, score), task)
        if epoch == 0:
            last.on_train_epoch_end(trainer(task, epoch, score), task)
    with pytest.raises(DivergedError, match=r"no longer finite in epoch 1: lower optimizer\.lr"):
        last.on_train_epoch_end(trainer(task, 1, 0.9), task)
    assert before.keys() == {"model.safetensors", "last.ckpt"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert best.best == 0.5 and load_model(tmp_path).spec == SPEC
    set_statistic(task, 1.0)
    best.on_validation_end(trainer(task, 2, 0.9), task)
    assert best.best == pytest.approx(0.9)
    assert (tmp_path / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_the_terms_of_the_loss_that_diverged_first_are_named(tmp_path: Path) -> None:
    class Diverging(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return logits.sum() * math.inf

    criterion = WeightedSum({"good": nn.CrossEntropyLoss, "bad": Diverging})
    loss = criterion(torch.ones(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
    fitting: Any = SimpleNamespace(
        current_epoch=3,
        global_step=9,
        is_global_zero=True,
        callback_metrics={"train/loss": loss},
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
    )
    with pytest.raises(DivergedError, match=r"^train/loss \(first loss\.terms\.bad\) is inf after epoch 3: lower"):
        MetricsCsv(tmp_path / "metrics.csv").on_train_epoch_end(fitting, SimpleNamespace(criterion=criterion))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])  # with EMA the state_dict holds the averages
def test_checkpoints_of_a_diverged_run_are_neither_written_nor_loaded(part: str, tmp_path: Path) -> None:
    path, states = tmp_path / "last.ckpt", AtomicCheckpointIO()
    whole = {"state_dict": {"w": torch.ones(2)}, "current_model_state": {"w": torch.ones(2)}}
    states.save_checkpoint(whole, path)
    assert torch.equal(states.load_checkpoint(path)[part]["w"], torch.ones(2))
    before, broken = path.read_bytes(), whole | {part: {"w": torch.tensor([1.0, math.nan])}}
    with pytest.raises(DivergedError, match=r"last\.ckpt was not written: w holds"):
        states.save_checkpoint(broken, path)
    assert path.read_bytes() == before
    torch.save(broken, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is from a run that has diverged: w has"):
        states.load_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_nan_is_found_in_every_floating_dtype(dtype: torch.dtype) -> None:
    good = {"a": torch.full((1000,), 400.0).to(dtype), "empty": torch.empty(0, dtype=dtype), "steps": torch.tensor(3)}
    assert nonfinite_tensor(good) is None
    values = torch.ones(1000)
    values[777] = math.nan
    assert nonfinite_tensor(good | {"b": values.to(dtype)}) == "b"


def test_large_finite_values_are_accepted() -> None:
    assert (
        nonfinite_tensor({"a": torch.full((1000,), 3e38), "b": torch.full((10,), -1e308, dtype=torch.float64)}) is None
    )
