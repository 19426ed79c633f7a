"""Building the parts of a training run: data, network, loss, optimizer and trainer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from satseg.data import SegmentationDataModule
from satseg.data.building import build_dataset
from satseg.errors import ConfigError
from satseg.evaluate.metrics import Scores
from satseg.models import build_model, channels_last, freeze_backbone, init_from
from satseg.models.catalogue import may_leave_layers_unused
from satseg.models.checkpoint import load_model
from satseg.ranks import is_rank_zero, world_size
from satseg.runs import AUTO, Run
from satseg.train import dashboards
from satseg.train.callbacks.averaging import ExponentialMovingAverage
from satseg.train.callbacks.checkpoint_io import AtomicCheckpointIO
from satseg.train.callbacks.epoch_log import EpochLines
from satseg.train.callbacks.records import BestModelFile, MetricsCsv, Throughput
from satseg.train.callbacks.resuming import Position, SaveLast, SeedBatches
from satseg.train.callbacks.stopping import StopOnInterrupt
from satseg.train.loss_config import build_criterion, try_criterion
from satseg.train.optimization import scaled_lr
from satseg.train.sharding import SyncNorms
from satseg.train.task import SegmentationTask
from satseg.validate.checking import check_cheaply
from satseg.validate.findings import Finding, Severity

logger = logging.getLogger(__name__)

SHARDED = "satseg.train.sharding.ShardedStrategy"
UNUSED_ALLOWED = "ddp_find_unused_parameters_true"


def build_datamodule(cfg: DictConfig) -> SegmentationDataModule:
    """Find the data, measure the training split, and log the assumptions made."""
    augmentation = instantiate(cfg.augmentation, _convert_="all")
    datamodule = build_dataset(cfg.dataset, augmentation=augmentation, sampling_seed=cfg.seed)
    datamodule.accelerator = str(cfg.trainer.accelerator)
    datamodule.setup()
    for assumption in datamodule.assumptions:
        logger.info("Assumed: %s", assumption)
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in datamodule.splits.items())
    logger.info("Data: %s images; classes: %s", sizes, ", ".join(datamodule.spec.class_names))
    return datamodule


def check_data(datamodule: SegmentationDataModule) -> list[Finding]:
    """Check the headers of images and masks; log and return the findings, worst first."""
    findings = [finding.relative_to(str(datamodule.root)) for finding in check_cheaply(datamodule)]
    for finding in findings:
        level = logging.ERROR if finding.severity is Severity.ERROR else logging.WARNING
        logger.log(level, "Data: %s", finding.line())
    return findings


def build_task(
    cfg: DictConfig, datamodule: SegmentationDataModule, device: torch.device | str = "cpu"
) -> SegmentationTask:
    """Build network, criterion and optimizer settings for the classes and bands of the data.

    Args:
        cfg: The configuration.
        datamodule: The data.
        device: Where the losses are tried, besides the CPU.
    """
    scores = [f"val/{name}" for name in Scores.empty(datamodule.spec.class_names).as_dict()]
    if cfg.monitor not in scores:
        raise ConfigError(f"monitor={cfg.monitor}: there is no such score; choose one of {', '.join(scores)}.")
    model = _plain(cfg.model)
    if cfg.init_from is not None or cfg.resume_from is not None:  # these include the backbone's weights
        model["encoder_weights"] = "none"
    network = build_model(model, datamodule.spec)
    if cfg.init_from is not None and cfg.resume_from is None:
        source = load_model(cfg.init_from, trusted_modules=cfg.trusted_modules, runs_dir=Path(cfg.runs_dir))
        logger.info("%s", init_from(network, source))
    if cfg.backbone.get("freeze", False):  # which a record may lack
        freeze_backbone(network)
    if cfg.channels_last:
        channels_last(network)
    if cfg.compile:
        network.net.compile()
    criterion = build_criterion(cfg.loss)
    criterion.set_class_weights(datamodule.class_weights(_plain(cfg.loss.get("class_weights", "none"))))
    try_criterion(criterion, datamodule.spec.num_classes, device)
    optimizer = _plain(cfg.optimizer)
    optimizer["lr"] = scaled_lr(optimizer["lr"], cfg.scale_lr, world_size())
    return SegmentationTask(network, criterion, optimizer, _plain(cfg.scheduler))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


@contextmanager
def built_trainer(cfg: DictConfig, run: Run) -> Iterator[pl.Trainer]:
    """Build the trainer for a block, and close its loggers at the end: the next run of a sweep has its own."""
    trainer = build_trainer(cfg, run)
    failed = True
    try:
        yield trainer
        failed = False
    finally:
        dashboards.close(trainer.loggers, failed)


def check_trainer(cfg: DictConfig) -> None:
    """Check the trainer's options, before any image is read.

    Raises:
        ConfigError: If they contradict each other, or no epoch would be scored.
    """
    every, epochs = cfg.trainer.check_val_every_n_epoch, cfg.trainer.max_epochs
    strategy = cfg.trainer.get("strategy")
    if OmegaConf.is_config(strategy) and strategy.get("_target_") == SHARDED and (cfg.ema or cfg.compile):
        raise ConfigError("ema and compile do not work with trainer=fsdp, where no device holds the whole network.")
    if cfg.trainer.accelerator == "cpu" and cfg.trainer.get("sync_batchnorm"):
        raise ConfigError(
            "trainer.sync_batchnorm=true works on GPUs only; with trainer.accelerator=cpu set it to false."
        )
    if epochs != AUTO and (isinstance(epochs, bool) or not isinstance(epochs, int)):
        raise ConfigError(
            f"trainer.max_epochs={'null' if epochs is None else epochs}: expected a whole number, as schedules "
            "need one, or auto; to stop earlier, set trainer.max_time."
        )
    if str(cfg.trainer.precision) in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
        raise ConfigError(f"trainer.precision={cfg.trainer.precision}: choose 32-true, bf16-mixed or 16-mixed.")
    if not isinstance(cfg.save_every_min, int | float) or cfg.save_every_min < 0:
        raise ConfigError(f"save_every_min={cfg.save_every_min}: expected a number of minutes.")
    if epochs != AUTO and epochs < (every or 1):
        raise ConfigError(
            f"trainer.max_epochs={epochs} with trainer.check_val_every_n_epoch={every}: no epoch would be scored, "
            "and no model selected; train at least as many epochs."
        )


def build_trainer(cfg: DictConfig, run: Run) -> pl.Trainer:
    """Build Lightning's trainer with the run's callbacks and loggers.

    Raises:
        ConfigError: If Lightning rejects the options.
    """
    seeks_unused = cfg.trainer.get("strategy") == "ddp" and may_leave_layers_unused(str(cfg.model._target_))
    metrics = MetricsCsv(run.path / "metrics.csv")
    records = [
        StopOnInterrupt(),
        SeedBatches(cfg.seed),
        Position(),
        Throughput(),
        metrics,
        EpochLines(metrics, cfg.monitor, cfg.log_every_epochs),
        BestModelFile(run.path / "model.safetensors", cfg.monitor),
        *([ExponentialMovingAverage()] if cfg.ema else []),
        pl.callbacks.ModelCheckpoint(
            run.path / "checkpoints",
            filename="best",
            monitor=cfg.monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        SaveLast(run.path / "checkpoints" / "last.ckpt", cfg.save_every_min),
    ]
    chosen = (cfg.logger or {}).values() if is_rank_zero() else ()
    loggers = [instantiate(node, save_dir=str(run.path)) for node in chosen]
    listeners = [instantiate(node) for name, node in cfg.callbacks.items() if loggers or name != "learning_rate"]
    try:
        trainer: pl.Trainer = instantiate(
            cfg.trainer,
            callbacks=records + listeners,
            logger=loggers,
            plugins=[AtomicCheckpointIO(), *([SyncNorms()] if cfg.trainer.get("sync_batchnorm") else [])],
            **({"strategy": UNUSED_ALLOWED} if seeks_unused else {}),
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=cfg.trainer.get("enable_progress_bar", True) and sys.stdout.isatty(),
            default_root_dir=str(run.path),
        )
    except Exception as error:  # Hydra wraps Lightning's errors about impossible combinations
        dashboards.close(loggers, failed=True)
        raise ConfigError(
            f"The trainer cannot be built: {error.__cause__ or error} Choose trainer=auto, cpu, gpu, ddp, fsdp or "
            "debug, and compatible options."
        ) from error
    return trainer
