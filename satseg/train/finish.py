"""End of a run: scoring the saved model on validation and test, and writing the report."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from satseg import signals
from satseg.data import SegmentationDataModule
from satseg.evaluate.report import report_split
from satseg.files import write_json
from satseg.locks import folder_lock
from satseg.models.checkpoint import load_model
from satseg.records.resuming import modules_to_trust
from satseg.runs import SUMMARY, Run, read_metrics
from satseg.runs.next_steps import after_training, usual_split
from satseg.train import dashboards
from satseg.train.config import backbone_name
from satseg.train.run_report import report_run

logger = logging.getLogger(__name__)

EVALUATION_TIMEOUT_S = 3600.0  # wait for another process that is evaluating the run


def finish_run(cfg: DictConfig, run: Run, datamodule: SegmentationDataModule, trainer: pl.Trainer) -> float:
    """Score the saved model file on validation and test, write pictures and report, publish, and write the summary."""
    datamodule.trainer = None  # a distributed sampler would read a share per rank
    trusted = _trusted_modules(cfg)
    network = load_model(run.path, _device(cfg), trusted_modules=trusted)
    splits = [split for split in ("val", "test") if datamodule.splits.get(split)]
    reports = {}
    for split in splits:
        folder = run.path / "evaluation" / split
        logger.info("Scoring %s with the best weights: %d images", split, len(datamodule.splits[split]))
        with folder_lock(folder, EVALUATION_TIMEOUT_S):
            reports[split] = report_split(network, datamodule, split, folder)
        signals.check()
    results = {split: report.result for split, report in reports.items()}
    parameters = sum(p.numel() for p in network.parameters())
    score = float(results["val"].scores.as_dict()[cfg.monitor.removeprefix("val/")])
    summary = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "monitor": cfg.monitor,
        "score": score,
        "model": str(cfg.model._target_).rpartition(".")[2],
        "backbone": backbone_name(cfg),
        "scores": {split: result.scores.as_dict() for split, result in results.items()},
        "parameters": parameters,
        "training_seconds": sum(row.get("seconds") or 0 for row in read_metrics(run.path / "metrics.csv")),
    }
    logger.info("Writing the report")
    report_run(run.path, cfg, reports, datamodule, parameters)
    signals.mark_complete()
    write_json(run.path / SUMMARY, summary)
    dashboards.publish_results(trainer.loggers, run, network, datamodule, results)
    _log_results(run, results)
    split = usual_split(splits)
    for line in after_training(run.path, datamodule.splits[split][0].image, split, trusted):
        logger.info("%s", line)
    return score


def _trusted_modules(cfg: DictConfig) -> list[str]:
    """Return the user's own modules that the model file and the record may name, as the user has named them."""
    named = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "dataset")}
    return list(dict.fromkeys([*cfg.trusted_modules, *modules_to_trust(named)]))


def _device(cfg: DictConfig) -> str:
    accelerated = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if accelerated else "cpu"


def _log_results(run: Run, results: dict[str, Any]) -> None:
    for split, result in results.items():
        logger.info("%s", result.table(split))
    logger.info("Run folder: %s", run.path)
    logger.info("Report:     %s", run.path / "report.html")
