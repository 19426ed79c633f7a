"""Report page of a run: its setup, its problems and its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from satseg.data import SegmentationDataModule
from satseg.evaluate.report import SplitReport
from satseg.evaluate.scoring import PROTOCOL
from satseg.runs import read_metrics
from satseg.runs.documents import read_json
from satseg.train.assessment import assess_run, read_findings
from satseg.validate.findings import Finding, count, worst_first
from satseg.visualization.figures import plot_curves
from satseg.visualization.figures.curves import SCORES, best_point, points
from satseg.visualization.report import MISSING, Notice, write_report

SPLITS = {"test": "test", "val": "validation"}  # in the order shown on the page
MAX_TEXT = 60_000  # characters of the configuration shown; one that lists images can be longer


def report_run(
    folder: Path,
    cfg: DictConfig,
    reports: Mapping[str, SplitReport],
    datamodule: SegmentationDataModule,
    parameters: int,
) -> None:
    """Plot the curves and write report.html, a self-contained page.

    Args:
        folder: The run folder.
        cfg: The run's configuration.
        reports: Reports by split.
        datamodule: The run's data.
        parameters: Number of parameters of the model.
    """
    rows, spec = read_metrics(folder / "metrics.csv"), datamodule.spec
    plot_curves(
        rows, folder / "figures" / "curves.png", dict(zip(spec.class_names, spec.palette, strict=True)), cfg.monitor
    )
    pixels = dict(zip(spec.class_names, datamodule.class_counts.tolist(), strict=True))
    results = {split: report.result for split, report in reports.items()}
    found = read_findings(folder) + assess_run(rows, cfg.monitor, cfg.trainer.max_epochs, pixels, results)
    environment = read_json(folder / "environment.json")
    write_report(
        folder / "report.html",
        title=_title(cfg),
        subtitle=str(folder.absolute()),
        facts=_facts(cfg, datamodule, rows, environment, parameters),
        notices=[*map(notice, worst_first(found)), *(Notice("note", text) for text in datamodule.assumptions)],
        splits={name: reports[split].page for split, name in SPLITS.items() if split in reports},
        class_names=spec.class_names,
        palette=spec.palette,
        rows=rows,
        monitor=cfg.monitor,
        protocol=PROTOCOL,
        texts={
            "Configuration": _cut(OmegaConf.to_yaml(cfg, resolve=True), "config.yaml"),
            "Environment": _cut(json.dumps(environment, indent=2), "environment.json"),
        },
    )


def notice(finding: Finding) -> Notice:
    """Return a finding as a notice for the page."""
    return Notice(finding.severity.name.lower(), finding.message, finding.repair, finding.files)


def _cut(text: str, file: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n… the rest is in {file}"


def _title(cfg: DictConfig) -> str:
    return " on ".join(name for name in (_model(cfg), _backbone(cfg)) if name)


def _model(cfg: DictConfig) -> str:
    return str(cfg.model._target_).rpartition(".")[2]


def _backbone(cfg: DictConfig) -> str:
    return str(cfg.model.get("encoder_name") or "").removeprefix("tu-")


def _facts(
    cfg: DictConfig,
    datamodule: SegmentationDataModule,
    rows: list[dict[str, Any]],
    environment: Mapping[str, Any],
    parameters: int,
) -> dict[str, str]:
    """Return the facts of the run as text."""
    source, splits = datamodule.spec.inputs[0], datamodule.splits
    megapixels = sum(float(np.prod(datamodule.sizes[s.name])) for own in splits.values() for s in own) / 1e6
    images = ", ".join(f"{len(own):,} {SPLITS.get(split, 'training')}" for split, own in splits.items() if own)
    ground = f", {source.gsd_m:.3g} m a pixel" if source.gsd_m else ""
    bands = ", ".join(source.bands[:6]) + (" …" if len(source.bands) > 6 else "")
    seconds = sum(row.get("seconds") or 0 for row in rows)
    best = best_point(points(rows, cfg.monitor))
    planned, num_classes = cfg.trainer.max_epochs, len(datamodule.spec.class_names)
    return {
        "Model": f"{_model(cfg)}, {parameters / 1e6:.1f} million parameters",
        "Backbone": f"{_backbone(cfg) or 'none'}; {_start(cfg)}",
        "Data": f"{Path(datamodule.root).name or datamodule.root}, {count(num_classes, 'class', 'classes')}",
        "Images": f"{images}; {megapixels:,.3g} megapixels",
        "Bands": f"{count(len(source.bands), 'band')} ({bands}), {source.dtype}{ground}",
        "Recipe": f"patches of {datamodule.patch_size} px, batches of {datamodule.batch_size}, {_optimizer(cfg)}",
        "Training": f"{len(rows)} of {count(planned, 'epoch')} in {_duration(seconds)}",
        "Best epoch": f"{best[0]:g} of {len(rows)}, by {_score_name(cfg.monitor)}: {best[1]:.3f}" if best else MISSING,
        "Device": _device(environment),
    }


def _score_name(monitor: str) -> str:
    return f"{SCORES[monitor]} on validation" if monitor in SCORES else monitor


def _optimizer(cfg: DictConfig) -> str:
    return f"{cfg.optimizer.get('name')} with lr {cfg.optimizer.get('lr')}"


def _start(cfg: DictConfig) -> str:
    """Describe the initial weights."""
    if cfg.get("init_from"):
        return f"started from the weights of {Path(str(cfg.init_from)).name}"
    weights = str(cfg.backbone.get("weights") or "none")
    start = "started from random weights" if weights == "none" else f"started from {Path(weights).name}"
    return start + (", frozen" if cfg.backbone.get("freeze") else "")


def _device(environment: Mapping[str, Any]) -> str:
    """Describe the training device; for runs of earlier versions, which did not record it, the available one."""
    gpus, processor = environment.get("gpus") or [], environment.get("processor") or "processor not recorded"
    threads = count(int(environment.get("threads", 1)), "thread")
    kind = environment.get("device")
    name = gpus[0] if gpus and kind != "cpu" else f"CPU, {processor}, {threads}"
    number = environment.get("num_devices", 1)
    return f"{number} x {name}" if number > 1 else str(name)


def _duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    minutes, whole = round(seconds / 60), round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"
