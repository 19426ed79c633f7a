"""From an evaluation to what people look at: tables, pictures and the run's page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from satseg.documents import read_json
from satseg.evaluation import PLAIN, PROTOCOL, EvaluationResult, Scoring, evaluate
from satseg.inference.combining import View, views
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.runs import read_metrics
from satseg.score_files import write_evaluation
from satseg.spec import DatasetSpec
from satseg.visualization.display import display_rgb
from satseg.visualization.figures import plot_confusion_matrix, plot_curves, plot_reliability, plot_samples
from satseg.visualization.report import write_report

if TYPE_CHECKING:  # its import brings Lightning, which predicting and serving do without
    from satseg.data import SegmentationDataModule

NUM_PICTURES = 4


def report_split(
    network: SegmentationNetwork,
    datamodule: SegmentationDataModule,
    split: str,
    folder: Path,
    scoring: Scoring = PLAIN,
) -> EvaluationResult:
    """Score a split and write scores, tables and pictures to a folder."""
    device = next(network.parameters()).device
    result = evaluate(network, datamodule.eval_dataloader(split), device, scoring, datamodule.groups(split))
    write_evaluation(result, folder, split)
    plot_confusion_matrix(result.matrix, list(result.class_names), folder / "confusion_matrix.png")
    plot_reliability(result.reliability.rows(), result.reliability.error, folder / "reliability.png")
    names = [image.name for image in result.images]
    step = max(1, len(names) // NUM_PICTURES)
    looks = views(scoring.tta)
    _plot(network, datamodule, split, sorted(names)[::step][:NUM_PICTURES], folder / "samples.png", looks)
    worst = [image.name for image in result.worst(NUM_PICTURES)]
    _plot(network, datamodule, split, worst, folder / "worst.png", looks)
    return result


def _plot(
    network: SegmentationNetwork,
    datamodule: SegmentationDataModule,
    split: str,
    names: Sequence[str],
    path: Path,
    looks: Sequence[View],
) -> None:
    """Draw image, truth and prediction of the named images."""
    spec, device = network.spec, next(network.parameters()).device
    rows = []
    for item in datamodule.named_items(split, names):
        image, valid = item["image"][None].to(device), item["valid"][None].to(device)
        predicted = segment(network, image, valid, looks)[0].argmax(0)
        truth = item["mask"].where(item["valid"], spec.ignore_index)
        rgb = to_rgb(item["image"], item["valid"], spec)
        rows.append((item["name"], rgb, truth.numpy(), predicted.cpu().numpy()))
    if rows:
        plot_samples(rows, list(spec.class_names), spec.palette, path)


def to_rgb(image: Tensor, valid: Tensor, spec: DatasetSpec) -> np.ndarray:
    """Stretch an image for display by constants of the training split.

    Args:
        image: Raw numbers (C, H, W).
        valid: Boolean (H, W).
        spec: What the model knows of its data.

    Returns:
        uint8 (H, W, 3).
    """
    source = spec.inputs[0]
    low, high = (source.statistics.p02, source.statistics.p98) if source.statistics else ((0,), (255,))
    if source.dtype == "uint8" and len(source.bands) in (1, 3):  # already made for the eye
        low, high = (0,), (255,)
    return display_rgb(image.numpy(), valid.numpy(), low, high, band_names=source.bands)


def report_run(
    folder: Path, cfg: DictConfig, results: dict[str, EvaluationResult], datamodule: SegmentationDataModule
) -> None:
    """Draw the curves and write report.html, which shows a run whole in one file."""
    figures = folder / "figures"
    plot_curves(read_metrics(folder / "metrics.csv"), figures / "curves.png")
    pictures = [("Training", "Loss, scores and learning rate, epoch by epoch", figures / "curves.png")]
    for split in results:
        place = folder / "evaluation" / split
        pictures += [
            (f"Samples ({split})", "Spread over the split", place / "samples.png"),
            (f"Worst images ({split})", "Lowest mIoU first", place / "worst.png"),
            (f"Confusion matrix ({split})", "Rows: truth; columns: prediction", place / "confusion_matrix.png"),
            (f"Reliability ({split})", "How often right, by how sure", place / "reliability.png"),
        ]
    write_report(
        folder / "report.html",
        title=folder.name,
        scores={split: result.scores.as_dict() for split, result in results.items()},
        class_names=list(datamodule.spec.class_names),
        figures=[p for p in pictures if p[2].exists()],
        warnings=datamodule.assumptions,
        protocol=PROTOCOL,
        palette=datamodule.spec.palette,
        facts={
            "Data": f"fingerprint {datamodule.fingerprint}",
            "Configuration": OmegaConf.to_yaml(cfg, resolve=True),
            "Environment": json.dumps(read_json(folder / "environment.json"), indent=2),
        },
    )
