"""The beginning of a run: its folder, its log, its seed, and a record of why it failed."""

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
from satseg.errors import InterruptedRunError
from satseg.files import write_json
from satseg.ranks import broadcast_result, is_rank_zero
from satseg.records.facts import read_choices, read_environment
from satseg.runs import CHOICES, FAILURE, Run, how_to_resume, open_run, write_failure
from satseg.train.config import config_choices, prepare_config, recognise_data, run_name, with_backbone

logger = logging.getLogger(__name__)

IGNORED_WARNINGS = (  # Lightning's warnings, as regular expressions
    "treespec, LeafSpec",  # its own affair
    "could not find the monitored key",  # an epoch that is not scored
    "your dataloader is not resumable",  # the sampler is
    "Checkpoint directory .* exists and is not empty",  # of this run
    "WeightAveraging callback with a model that overrides",  # where layers are sharded, ema is refused
    "smaller than the logging interval",  # epochs are logged, too
)


@contextmanager
def started_run(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Make or reopen the run folder, and note what the run was composed from.

    It is one folder for all processes that train, and for the length of the block theirs alone.
    """
    cfg = prepare_config(cfg)
    recognised = recognise_data(cfg)
    if cfg.from_run is not None:
        read_environment(Path(cfg.from_run))  # a broken record is told before a folder is made
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
    """Start the log, and seed every random number generator."""
    set_up_logging(run.path / "train.log")
    if cfg.from_run is not None:  # their number decides the order of sums
        torch.set_num_threads(read_environment(Path(cfg.from_run))["threads"])
    pl.seed_everything(cfg.seed, workers=True, verbose=False)


@contextmanager
def failure_recorded(run: Run) -> Iterator[None]:
    """Note in the run folder why a run ended without a score; an interruption is no failure, and says how to go on."""
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


def set_up_logging(path: Path) -> None:
    """Send satseg's messages to the terminal and to one file; of several processes, those of the first."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):  # a sweep starts several runs in one process
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    root.propagate = False
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else advertisements and what it found normal
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
    """Write no more to a file: its folder may go."""
    root = logging.getLogger("satseg")
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()
