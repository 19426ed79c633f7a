"""Automatic training length, derived from the sizes of the data and the machine."""

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
    """Return a stand-in for a datamodule of square images."""
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
        (117, 27, 256, 2, 43, "auto"),  # 30 min * 60 s * 3 patches/s / (117 + 0.3 * 27)
        (12, 3, 256, 2, 100, "auto"),
        (400, 100, 256, 2, 13, "auto"),
        (
            2500,
            100,
            1024,
            2,
            10,
            270,
        ),  # of 40,000 patches; a tenth of 5,400 less the time of validation, 480, is for each epoch
        (2500, 100, 1024, 64, 10, 16_800),
    ],
)
def test_the_automatic_number_of_epochs_takes_about_half_an_hour(
    train: int, val: int, edge: int, threads: int, epochs: int, patches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cfg = resolve_auto(configuration(), data(train, val, edge))
    assert (cfg.trainer.max_epochs, cfg.dataset.patches_per_epoch) == (epochs, patches)
    assert (cfg.dataset.patch_size, cfg.dataset.batch_size) == (256, 8)


def test_given_options_are_not_changed() -> None:
    given = ["trainer.max_epochs=50", "dataset.patch_size=256", "dataset.batch_size=8"]
    cfg = configuration(*given)
    assert resolve_auto(cfg, data(2500, 100, 1024)) is cfg
    cfg = resolve_auto(configuration("trainer.max_epochs=50"), data(2500, 100, 1024))
    assert cfg.trainer.max_epochs == 50 and cfg.dataset.patches_per_epoch == "auto"


@pytest.mark.parametrize("experiment", ["demo", "dubai_baseline"])
def test_experiments_set_all_automatic_options(experiment: str, tmp_path: Path) -> None:
    cfg = configuration(f"experiment={experiment}", f"dataset.root={tmp_path}")
    assert resolve_auto(cfg, data(2500, 100, 1024)) is cfg
    assert cfg.dataset.patch_size == 256
