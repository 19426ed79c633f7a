"""Records of a run's inputs: configuration, environment and data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from satseg.data import SegmentationDataModule
from satseg.environment import environment
from satseg.errors import (
    ConfigError,
)
from satseg.files import write_json, write_text
from satseg.records.facts import read_data
from satseg.runs import DATA, Run, clear_first_epoch
from satseg.train import dashboards
from satseg.train.assessment import write_findings
from satseg.train.differences import data_differences, differences
from satseg.train.task import SegmentationTask
from satseg.validate.findings import Finding

logger = logging.getLogger(__name__)


def check_same_data(run: Run, datamodule: SegmentationDataModule) -> None:
    """Raise ConfigError if images or masks differ from those that the run began with."""
    now = {"fingerprint": datamodule.fingerprint, "digests": datamodule.digests()}
    if found := data_differences(read_data(run.path), now):
        raise ConfigError(
            f"resume_from={run.path}: the data has changed since the run began ({'; '.join(found)}). Restore it, "
            f" or start a new run from its weights with init_from={run.path}."
        )


def record_run(
    cfg: DictConfig,
    run: Run,
    datamodule: SegmentationDataModule,
    trainer: pl.Trainer,
    task: SegmentationTask,
    findings: Sequence[Finding],
) -> None:
    """Record the run's inputs; when resuming, only once the callbacks have accepted the new options."""

    @cache
    def record() -> None:
        _write_record(cfg, run, datamodule, trainer, task)
        write_findings(run.path, findings)

    if run.resume_path is None:
        clear_first_epoch(run)
        record()
        return
    accepted = pl.callbacks.LambdaCallback(
        on_train_start=lambda *_: record(),
        on_fit_end=lambda *_: record(),  # if nothing was left to train
    )
    trainer.callbacks.append(accepted)  # type: ignore[attr-defined]


def _write_record(
    cfg: DictConfig, run: Run, datamodule: SegmentationDataModule, trainer: pl.Trainer, task: SegmentationTask
) -> None:
    write_text(run.path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    device = {"device": trainer.strategy.root_device.type, "num_devices": trainer.world_size}
    write_json(run.path / "environment.json", environment() | device)
    data: dict[str, Any] = {"fingerprint": datamodule.fingerprint, "assumptions": datamodule.assumptions}
    data["class_pixels"] = dict(zip(datamodule.spec.class_names, datamodule.class_counts.tolist(), strict=True))
    write_json(
        run.path / DATA,
        data | datamodule.manifest() | {"digests": datamodule.digests(), "spec": datamodule.spec.to_dict()},
    )
    if cfg.from_run is not None:
        for line in differences(Path(cfg.from_run), run.path):
            logger.warning("Differs from %s: %s", Path(cfg.from_run).name, line)
    dashboards.publish_settings(trainer.loggers, cfg, run, task.network)
