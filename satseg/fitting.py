"""Training itself, and what to say when it stops early."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from satseg import ending, publishing, training
from satseg.choosing import choose
from satseg.data import SegmentationDataModule
from satseg.devices import memory_limit
from satseg.environment import environment
from satseg.errors import (
    ConfigError,
    DataChangedError,
    InterruptedRunError,
    ResourceError,
    WorkerLostError,
    out_of_memory,
)
from satseg.files import write_json, write_text
from satseg.judging import write_findings
from satseg.lost_workers import lost_worker
from satseg.ranks import is_first
from satseg.repeating import data_differences, differences, read_data
from satseg.runs import DATA, Run, begin, how_to_resume
from satseg.task import SegmentationTask
from satseg.validation import Finding

logger = logging.getLogger(__name__)


def train(cfg: DictConfig, run: Run) -> float:
    """Train on this process's device; return the monitored score, in the first process of several.

    Raises:
        InterruptedRunError: If the user or the system ended it.
        DataChangedError: If a file of the dataset is not what it was when the run began.
        WorkerLostError: If a process that loads data was killed.
    """
    try:
        return _train(cfg, run)
    except KeyboardInterrupt as stop:
        raise InterruptedRunError("Interrupted.") from stop
    except DataChangedError as error:
        raise DataChangedError(f"{error} {how_to_resume(run.path)}") from error
    except Exception as error:
        if not (lost := lost_worker(error)):
            raise
        raise WorkerLostError(f"{lost} {how_to_resume(run.path)}") from error


def _train(cfg: DictConfig, run: Run) -> float:
    training.check_trainer(cfg)
    datamodule = training.build_datamodule(cfg)
    findings = training.check_data(datamodule)
    datamodule.know_files_by(run.path / DATA)
    if run.resume_path is not None and is_first():
        _check_data(run, datamodule)
    cfg = choose(cfg, datamodule)
    with training.built_trainer(cfg, run) as trainer:
        task = training.build_task(cfg, datamodule)
        if is_first():
            _record(cfg, run, datamodule, trainer, task, findings)
        fit(trainer, task, datamodule, run)
        if not is_first():
            return float("nan")
        return training.finish_run(cfg, run, datamodule, trainer)


def _check_data(run: Run, datamodule: SegmentationDataModule) -> None:
    """Refuse to go on with other images and masks than those that the run began with."""
    now = {"fingerprint": datamodule.fingerprint, "digests": datamodule.digests()}
    if found := data_differences(read_data(run.path), now):
        raise ConfigError(
            f"resume_from={run.path}: the data is not what the run began with ({'; '.join(found)}). Put it back as it "
            f"was, or start a new run from its weights with init_from={run.path}."
        )


def _record(
    cfg: DictConfig,
    run: Run,
    datamodule: SegmentationDataModule,
    trainer: pl.Trainer,
    task: SegmentationTask,
    findings: Sequence[Finding],
) -> None:
    """Write down what the run depends on; of a run that goes on, once its callbacks have taken the new numbers."""

    @cache
    def record() -> None:
        _write_record(cfg, run, datamodule, trainer, task)
        write_findings(run.path, findings)

    if run.resume_path is None:
        begin(run)
        record()
        return
    accepted = pl.callbacks.LambdaCallback(
        on_train_start=lambda *_: record(),
        on_fit_end=lambda *_: record(),  # where nothing was left to train
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
    publishing.publish_settings(trainer.loggers, cfg, run, task.network)


def fit(trainer: pl.Trainer, task: SegmentationTask, datamodule: SegmentationDataModule, run: Run) -> None:
    """Train.

    Raises:
        ResourceError: If memory or disk ran out; says what to make smaller.
        InterruptedRunError: If training was interrupted.
    """
    parameters = sum(p.numel() for p in task.network.parameters())
    logger.info("Training %.1f million parameters on %s", parameters / 1e6, trainer.strategy.root_device)
    try:
        with memory_limit(trainer.strategy.root_device), ending.deferred():
            # Lightning's own handler waits for the other devices
            trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
            trainer.fit(task, datamodule=datamodule, ckpt_path=run.resume_path)
    except ResourceError as error:
        raise ResourceError(f"{error} {how_to_resume(run.path)}") from error
    except MisconfigurationException as error:
        raise ConfigError(f"Training cannot start: {error}") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "dataset.batch_size=1: this model normalises over the batch and needs at least 2, or auto."
        ) from error
    except OSError as error:
        if lost_worker(error):
            raise
        raise ResourceError(f"{run.path}: {error}. {how_to_resume(run.path)}") from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ResourceError(
            f"Memory ran out with dataset.batch_size={datamodule.batch_size} and dataset.patch_size="
            f"{datamodule.patch_size}: make one of them smaller, and keep the effective batch with "
            "trainer.accumulate_grad_batches."
        ) from error
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        raise InterruptedRunError("Interrupted.") from stop
    if trainer.interrupted:
        raise InterruptedRunError("Interrupted.")
