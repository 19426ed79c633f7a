"""A training run, from the composed configuration to its score."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.ranks import is_rank_zero
from satseg.runs import DATA, Run
from satseg.train.auto_options import resolve_auto
from satseg.train.build import build_datamodule, build_task, built_trainer, check_data, check_trainer
from satseg.train.finish import finish_run
from satseg.train.fit import fit
from satseg.train.loss_config import check_loss
from satseg.train.processes import launch, num_processes
from satseg.train.record import check_same_data, record_run
from satseg.train.start import failure_recorded, interruptions_explained, started_run


def train(cfg: DictConfig) -> float:
    """Train one model on as many devices as the configuration names; return the monitored score.

    Raises:
        SatsegError: If the run cannot start or go on; its folder records why.
    """
    with started_run(cfg) as (cfg, run), failure_recorded(run):
        count = num_processes(cfg)
        return launch(cfg, run, count) if count > 1 else train_here(cfg, run)


def train_here(cfg: DictConfig, run: Run) -> float:
    """Train on this process's device; return the monitored score, NaN on all ranks but the first.

    Raises:
        InterruptedRunError: If the user or the system stopped the run.
        DataChangedError: If a file of the dataset has changed since the run began.
        WorkerLostError: If a data loader's process was killed.
    """
    with interruptions_explained(run):
        check_trainer(cfg)
        check_loss(cfg.loss)
        datamodule = build_datamodule(cfg)
        findings = check_data(datamodule)
        datamodule.use_digests(run.path / DATA)
        if run.resume_path is not None and is_rank_zero():
            check_same_data(run, datamodule)
        cfg = resolve_auto(cfg, datamodule)
        with built_trainer(cfg, run) as trainer:
            task = build_task(cfg, datamodule, trainer.strategy.root_device)
            if is_rank_zero():
                record_run(cfg, run, datamodule, trainer, task, findings)
            fit(trainer, task, datamodule, run)
            return finish_run(cfg, run, datamodule, trainer) if is_rank_zero() else float("nan")
