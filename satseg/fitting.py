"""Training itself, and what to say when it stops early."""

from __future__ import annotations

import logging
import shlex

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from satseg.data import SegmentationDataModule
from satseg.devices import memory_limit, out_of_memory
from satseg.errors import ConfigError, InterruptedRunError, ResourceError
from satseg.runs import Run
from satseg.task import SegmentationTask

logger = logging.getLogger(__name__)


def fit(trainer: pl.Trainer, task: SegmentationTask, datamodule: SegmentationDataModule, run: Run) -> None:
    """Train.

    Raises:
        ResourceError: If memory or disk ran out; says what to make smaller.
        InterruptedRunError: If training was interrupted; says how to go on.
    """
    parameters = sum(p.numel() for p in task.network.parameters())
    logger.info("Training %.1f million parameters on %s", parameters / 1e6, trainer.strategy.root_device)
    try:
        with memory_limit(trainer.strategy.root_device):
            trainer.fit(task, datamodule=datamodule, ckpt_path=run.resume_path)
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error} {_resume(run)}") from error
    except ResourceError as error:
        raise ResourceError(f"{error} {_resume(run)}") from error
    except MisconfigurationException as error:
        raise ConfigError(f"Training cannot start: {error}") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError("dataset.batch_size=1: this model normalises over the batch and needs at least 2.") from error
    except OSError as error:
        raise ResourceError(f"{run.path}: {error}. {_resume(run)}") from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ResourceError(
            f"Memory ran out with dataset.batch_size={datamodule.batch_size} and dataset.patch_size="
            f"{datamodule.patch_size}: make one of them smaller, and keep the effective batch with "
            "trainer.accumulate_grad_batches."
        ) from error
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        raise InterruptedRunError(f"Interrupted. {_resume(run)}") from stop
    if trainer.interrupted:
        raise InterruptedRunError(f"Interrupted. {_resume(run)}")


def _resume(run: Run) -> str:
    if not (run.path / "checkpoints" / "last.ckpt").exists():
        return "There is no checkpoint yet to go on from; start again."
    return (
        f"The last good checkpoint is kept; go on with: python -m satseg.train resume_from={shlex.quote(str(run.path))}"
    )
