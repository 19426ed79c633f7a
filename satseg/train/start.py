"""Start of a run: its folder, log and seed, and the record of a failure."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from satseg import signals
from satseg.data.workers import worker_lost_error
from satseg.errors import DataChangedError, InterruptedRunError, WorkerLostError
from satseg.files import write_json
from satseg.ranks import broadcast_result, is_rank_zero
from satseg.records.facts import read_choices, read_environment
from satseg.records.resuming import how_to_resume
from satseg.runs import CHOICES, FAILURE, Run, open_run, write_failure
from satseg.train.config import config_choices, prepare_config, recognise_data, run_name, with_backbone

logger = logging.getLogger(__name__)

IGNORED_WARNINGS = (  # Lightning's warnings, as regular expressions
    "treespec, LeafSpec",  # internal to PyTorch
    "could not find the monitored key",  # epochs without validation
    "your dataloader is not resumable",  # the sampler is resumable
    "Checkpoint directory .* exists and is not empty",  # it is this run's own
    "WeightAveraging callback with a model that overrides",  # ema is refused where layers are sharded
    "smaller than the logging interval",  # every epoch is logged as well
)


@contextmanager
def started_run(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Create or reopen the run folder, and record the config choices.

    All training processes share the folder, and hold its lock for the length of the block.
    """
    cfg = prepare_config(cfg)
    recognised = recognise_data(cfg)
    if cfg.from_run is not None:
        read_environment(Path(cfg.from_run))  # report an invalid record before a folder is made
    recorded = read_choices(Path(cfg.from_run)) if cfg.from_run is not None else None
    known = with_backbone(recorded or config_choices(), cfg)
    with ExitStack() as stack:
        config = OmegaConf.to_yaml(cfg, resolve=True)
        opened = open_run(cfg.run_dir, Path(cfg.runs_dir), run_name(known), cfg.resume_from, config)
        run = broadcast_result(lambda: stack.enter_context(opened))
        prepare_process(cfg, run)
        stack.callback(close_log_files)
        logger.info("Run folder: %s", run.path)
        for sentence in recognised:
            logger.info("Recognised: %s", sentence)
        if run.resume_path is None and is_rank_zero():
            write_json(run.path / CHOICES, known)
        yield cfg, run


def prepare_process(cfg: DictConfig, run: Run) -> None:
    """Set up logging, and seed every random number generator."""
    set_up_logging(run.path / "train.log")
    if cfg.from_run is not None:  # the number of threads determines the order of sums
        torch.set_num_threads(read_environment(Path(cfg.from_run))["threads"])
    pl.seed_everything(cfg.seed, workers=True, verbose=False)


@contextmanager
def failure_recorded(run: Run) -> Iterator[None]:
    """Record in the run folder why a run ended without a score; an interruption only gains advice on resuming."""
    path = run.path / FAILURE
    if is_rank_zero():
        path.unlink(missing_ok=True)
    try:
        with signals.replacing_errors_after_stop():
            yield
    except signals.StopRequested as request:
        request.advice = how_to_resume(run.path)
        raise
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error} {how_to_resume(run.path)}") from error
    except Exception as error:
        if not is_rank_zero():
            raise
        write_failure(run.path, error)
        raise


@contextmanager
def interruptions_explained(run: Run) -> Iterator[None]:
    """Turn Ctrl-C, changed data and a lost data loader into errors that say how to resume.

    Raises:
        InterruptedRunError: On Ctrl-C.
        DataChangedError: If a file of the dataset has changed since the run began.
        WorkerLostError: If a data loader's process was killed.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise InterruptedRunError("Interrupted.") from stop
    except DataChangedError as error:
        raise DataChangedError(f"{error} {how_to_resume(run.path)}") from error
    except Exception as error:
        if not (lost := worker_lost_error(error)):
            raise
        raise WorkerLostError(f"{lost} {how_to_resume(run.path)}") from error


def set_up_logging(path: Path) -> None:
    """Log satseg's messages to the terminal and to one file, on rank zero only."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):  # a sweep runs several trainings in one process
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    root.propagate = False
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # silence hints and status messages
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    if not is_rank_zero():
        root.addHandler(logging.NullHandler())
        return
    terminal, file = logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")
    terminal.addFilter(lambda record: not getattr(record, "in_bar", False))
    terminal.setFormatter(logging.Formatter("%(message)s"))
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(terminal)
    root.addHandler(file)


def close_log_files() -> None:
    """Close the log files, as their folder may be removed."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()
