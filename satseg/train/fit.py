"""Fitting with Lightning, and the errors of a fit that stops early."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from satseg import signals
from satseg.data import SegmentationDataModule
from satseg.data.workers import worker_lost_error
from satseg.devices import memory_limit
from satseg.errors import (
    ConfigError,
    InterruptedRunError,
    ResourceError,
    is_out_of_memory,
)
from satseg.records.resuming import how_to_resume
from satseg.runs import Run
from satseg.train.task import SegmentationTask

logger = logging.getLogger(__name__)


def fit(trainer: pl.Trainer, task: SegmentationTask, datamodule: SegmentationDataModule, run: Run) -> None:
    """Fit the task.

    Raises:
        ResourceError: If memory or disk ran out; advises what to reduce.
        InterruptedRunError: If training was interrupted.
    """
    parameters = sum(p.numel() for p in task.network.parameters())
    logger.info("Training %.1f million parameters on %s", parameters / 1e6, trainer.strategy.root_device)
    try:
        with memory_limit(trainer.strategy.root_device), signals.deferred():
            # No option turns off Lightning's SIGTERM handler, which blocks in a broadcast to the other ranks: without
            # auto_requeue SLURMEnvironment drops only its own. A callback could replace it, but only after data setup.
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
        if worker_lost_error(error):
            raise
        raise ResourceError(f"{run.path}: {error}. {how_to_resume(run.path)}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"Memory ran out with dataset.batch_size={datamodule.batch_size} and dataset.patch_size="
            f"{datamodule.patch_size}: make one of them smaller, and keep the effective batch with "
            "trainer.accumulate_grad_batches."
        ) from error
    except SystemExit as stop:  # raised by Lightning on Ctrl-C
        raise InterruptedRunError("Interrupted.") from stop
    if trainer.interrupted:
        raise InterruptedRunError("Interrupted.")
