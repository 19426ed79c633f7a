"""Values for the options set to `auto`: patch size, batch size and length of the training."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig, OmegaConf

from satseg.data import SegmentationDataModule
from satseg.devices import Machine, training_machine
from satseg.ranks import broadcast_result, world_size
from satseg.runs import AUTO, AUTO_OPTIONS

logger = logging.getLogger(__name__)

PATCH, BATCH, PATCHES_PER_EPOCH, EPOCHS = AUTO_OPTIONS

# A first model should take half an hour. One thread of a server's processor trains a U-Net on a resnet18 at
# 1.5 patches of 256 x 256 pixels a second (0.66 s each, and 0.2 s for scoring one). The chosen network is ignored, as
# runs of a sweep over backbones should differ in nothing else, and so is the load of the machine: the same machine
# always gives the same values.
TARGET_MINUTES = 30
PIXELS_PER_SECOND = 1.5 * 256**2
SCORING_COST = 0.3
GPU_THREADS = 128  # equivalent of a small GPU; an estimate, which matters little, as small datasets reach MAX_EPOCHS
MIN_EPOCHS, MAX_EPOCHS = 10, 100  # fewer are too few for a schedule; more gain little on small data


@dataclass(frozen=True)
class Length:
    """Length of a training.

    Attributes:
        epochs: Number of epochs.
        patches: Patches per epoch, over all devices.
        minutes: Estimated duration; None on a GPU, whose speed is unknown.
    """

    epochs: int
    patches: int
    minutes: float | None


def resolve_auto(cfg: DictConfig, datamodule: SegmentationDataModule) -> DictConfig:
    """Return the configuration with numbers in place of `auto`; set them on the datamodule, and log them.

    Rank zero chooses for all processes, as their machines may differ.

    Args:
        cfg: The whole configuration.
        datamodule: The data, already set up.
    """
    asked = [key for key in (PATCH, BATCH, EPOCHS) if OmegaConf.select(cfg, key) == AUTO]
    if not asked:
        return cfg
    numbers, reasons = broadcast_result(lambda: _choices(cfg, datamodule, asked))
    datamodule.patch_size = numbers.get(PATCH, datamodule.patch_size)
    datamodule.batch_size = numbers.get(BATCH, datamodule.batch_size)
    datamodule.patches_per_epoch = numbers.get(PATCHES_PER_EPOCH, datamodule.patches_per_epoch)
    cfg = cfg.copy()
    for key, number in numbers.items():
        OmegaConf.update(cfg, key, number)
    choices = ", ".join(f"{key}={number} ({reasons[key]})" for key, number in numbers.items())
    logger.info("Chosen: %s; give an option yourself to fix it", choices)
    return cfg


def _choices(
    cfg: DictConfig, datamodule: SegmentationDataModule, asked: list[str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Return a number for each `auto` option, and its reason."""
    batch, devices, machine = datamodule.batch_size, world_size(), training_machine(datamodule.accelerator)
    length = _length(cfg, datamodule, machine)
    is_cut = length.patches < datamodule.num_patches
    steps = max(1, math.ceil(length.patches / (batch * devices)))
    numbers = {PATCH: datamodule.patch_size, BATCH: batch, PATCHES_PER_EPOCH: length.patches, EPOCHS: length.epochs}
    work = "a first model on a GPU"
    if length.minutes is not None:
        threads = f"{machine.threads} processor thread{'s' if machine.threads > 1 else ''}"
        work = f"some {_round(length.minutes)} min of a small network on {threads}"
    reasons = {
        PATCH: "fits the images",
        BATCH: f"{steps} steps an epoch",
        PATCHES_PER_EPOCH: f"of {datamodule.num_patches} that cover the images",
        EPOCHS: work,
    }
    if _max_steps(cfg):
        reasons[EPOCHS] = f"for trainer.max_steps={_max_steps(cfg)}"
    wanted = {*asked, PATCHES_PER_EPOCH} if is_cut else {*asked}
    return {key: number for key, number in numbers.items() if key in wanted}, reasons


def _length(cfg: DictConfig, datamodule: SegmentationDataModule, machine: Machine) -> Length:
    """Choose epochs to fit the time budget; if MIN_EPOCHS exceed it, reduce the patches per epoch."""
    patches, edge = datamodule.num_patches, datamodule.patch_size
    if cfg.trainer.max_epochs != AUTO:
        return Length(cfg.trainer.max_epochs, patches, None)
    if steps := _max_steps(cfg):
        batches = max(1, math.ceil(patches / (datamodule.batch_size * world_size())))
        return Length(math.ceil(steps * cfg.trainer.accumulate_grad_batches / batches), patches, None)
    scored = SCORING_COST * _area(datamodule, "val")
    threads = GPU_THREADS * world_size() if machine.is_gpu else machine.threads
    speed = PIXELS_PER_SECOND * threads
    budget = 60 * TARGET_MINUTES * speed
    if OmegaConf.select(cfg, PATCHES_PER_EPOCH) == AUTO:  # a custom dataset may lack this option
        share = budget / MIN_EPOCHS  # per epoch; at least half of it is for training
        patches = min(patches, math.ceil(max(share / 2, share - scored) / edge**2))
    pixels = patches * edge**2 + scored
    epochs = round(min(max(budget / pixels, MIN_EPOCHS), MAX_EPOCHS))
    epochs = max(epochs, cfg.trainer.check_val_every_n_epoch or 1)
    return Length(epochs, patches, None if machine.is_gpu else epochs * pixels / speed / 60)


def _max_steps(cfg: DictConfig) -> int | None:
    """Return the user's limit of steps; None if there is none."""
    options: Mapping[str, int] = cfg.trainer
    steps = options.get("max_steps", -1)
    return steps if isinstance(steps, int) and steps > 0 else None


def _area(datamodule: SegmentationDataModule, split: str) -> int:
    return sum(int(np.prod(datamodule.sizes[s.name])) for s in datamodule.splits.get(split, ()))


def _round(minutes: float) -> int:
    """Round to minutes, from twenty on to multiples of five."""
    return max(1, round(minutes)) if minutes < 20 else 5 * round(minutes / 5)
