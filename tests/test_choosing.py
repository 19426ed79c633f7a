"""How long a training is where nobody says so: by the data and the machine, counted from sizes alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from satseg.config import CONFIG_DIR
from satseg.train.auto_options import resolve_auto


def configuration(*options: str) -> DictConfig:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", ["dataset=folder", "trainer=cpu", *options])


def data(train: int, val: int, edge: int) -> Any:
    """A stand-in of a dataset of square images, set up."""
    splits = {
        name: [SimpleNamespace(name=f"{name}{i}") for i in range(n)] for name, n in (("train", train), ("val", val))
    }
    sizes = {sample.name: (edge, edge) for samples in splits.values() for sample in samples}
    patches = train * edge**2 // 256**2
    return SimpleNamespace(
        splits=splits,
        sizes=sizes,
        accelerator="cpu",
        patch_size=256,
        batch_size=8,
        patches_per_epoch="auto",
        num_patches=patches,
    )


@pytest.mark.parametrize(
    ("train", "val", "edge", "threads", "epochs", "patches"),
    [
        (117, 27, 256, 2, 43, "auto"),  # 30 min * 60 s * 3 patches a second / (117 + 0.3 * 27)
        (12, 3, 256, 2, 100, "auto"),
        (400, 100, 256, 2, 13, "auto"),
        (2500, 100, 1024, 2, 10, 270),  # 40,000 patches, of which a tenth of the 5,400 may be seen; scoring takes 480
        (2500, 100, 1024, 64, 10, 16_800),
    ],
)
def test_epochs_are_for_half_an_hour(
    train: int, val: int, edge: int, threads: int, epochs: int, patches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cfg = resolve_auto(configuration(), data(train, val, edge))
    assert (cfg.trainer.max_epochs, cfg.dataset.patches_per_epoch) == (epochs, patches)
    assert (cfg.dataset.patch_size, cfg.dataset.batch_size) == (256, 8)


def test_what_is_said_stays_as_it_is() -> None:
    said = ["trainer.max_epochs=50", "dataset.patch_size=256", "dataset.batch_size=8"]
    cfg = configuration(*said)
    assert resolve_auto(cfg, data(2500, 100, 1024)) is cfg
    cfg = resolve_auto(configuration("trainer.max_epochs=50"), data(2500, 100, 1024))
    assert cfg.trainer.max_epochs == 50 and cfg.dataset.patches_per_epoch == "auto"


@pytest.mark.parametrize("experiment", ["demo", "dubai_baseline"])
def test_experiments_leave_nothing_to_choose(experiment: str, tmp_path: Path) -> None:
    cfg = configuration(f"experiment={experiment}", f"dataset.root={tmp_path}")
    assert resolve_auto(cfg, data(2500, 100, 1024)) is cfg
    assert cfg.dataset.patch_size == 256
