"""Publishing settings, images, tables and the model to a dashboard, beside the metrics of each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from satseg.data import SegmentationDataModule
from satseg.evaluate.report import NUM_PICTURES
from satseg.evaluate.scoring import EvaluationResult
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.records.facts import read_data, read_environment
from satseg.runs import MODEL_FILE, SUMMARY, Run, read_summary
from satseg.train.callbacks.wandb import Dashboard
from satseg.visualization.display import to_rgb

ARTIFACT = "model"
NUM_WORST = 20  # images in the table of the worst


def publish_settings(loggers: Sequence[Logger], cfg: DictConfig, run: Run, network: SegmentationNetwork) -> None:
    """Publish the run's inputs: configuration, data and code."""
    for board in _dashboards(loggers):
        data, environment = read_data(run.path), read_environment(run.path)
        facts = {"data_fingerprint": data["fingerprint"], "git": environment.get("git"), "run_folder": str(run.path)}
        with board.errors_logged():
            board.log_hyperparams({**OmegaConf.to_container(cfg, resolve=True), **facts})  # type: ignore[dict-item]
            if board.watched:
                board.watch(network, log=board.watched, log_freq=board.watch_every, log_graph=False)


def publish_results(
    loggers: Sequence[Logger],
    run: Run,
    network: SegmentationNetwork,
    datamodule: SegmentationDataModule,
    results: Mapping[str, EvaluationResult],
) -> None:
    """Publish scores, confusion matrix, images with class overlays, the worst images and the model file."""
    for board in _dashboards(loggers):
        with board.errors_logged():
            for split, result in results.items():
                board.experiment.summary.update({f"{split}/{k}": v for k, v in result.scores.as_dict().items()})
                board.experiment.log({f"{split}/confusion_matrix": _confusion(result)})
                board.experiment.log(_pictures(network, datamodule, split, result))
            _upload_model(board, run)


def close(loggers: Sequence[Logger], failed: bool) -> None:
    """Close the dashboards."""
    for board in _dashboards(loggers):
        board.close(failed)


def _dashboards(loggers: Sequence[Logger]) -> list[Dashboard]:
    return [logger for logger in loggers if isinstance(logger, Dashboard)]


def _confusion(result: EvaluationResult) -> Any:
    import wandb

    names = result.class_names
    rows = [[names[i], names[j], int(n)] for (i, j), n in np.ndenumerate(result.matrix)]
    table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    return wandb.plot_table("wandb/confusion_matrix/v1", table, fields, {"title": "Pixels"})


def _pictures(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str, result: EvaluationResult
) -> dict[str, Any]:
    import wandb

    worst = {image.name: image for image in result.worst(NUM_WORST)}
    names = sorted(image.name for image in result.images)
    chosen = names[:: max(1, len(names) // NUM_PICTURES)][:NUM_PICTURES]
    images = dict(zip(chosen, _overlays(network, datamodule, split, chosen), strict=True))
    table = wandb.Table(columns=["image", "name", "group", "miou", "accuracy", "pixels"])
    for image, shown in zip(worst.values(), _overlays(network, datamodule, split, list(worst)), strict=True):
        scores = image.scores
        table.add_data(shown, image.name, image.group, scores.miou, scores.accuracy, int(scores.matrix.sum()))
    return {f"{split}/samples": list(images.values()), f"{split}/worst_images": table}


def _overlays(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str, names: Sequence[str]
) -> list[Any]:
    """Return images with truth and prediction as overlays that can be toggled by class."""
    import wandb

    spec, device = network.spec, next(network.parameters()).device
    labels = dict(enumerate(spec.class_names)) | {spec.ignore_index: "ignored"}
    shown = []
    for item in datamodule.named_items(split, names):
        logits = segment(network, item["image"][None].to(device), item["valid"][None].to(device))
        truth = item["mask"].where(item["valid"], spec.ignore_index).numpy()
        masks = {
            name: {"mask_data": classes, "class_labels": labels}
            for name, classes in (("truth", truth), ("prediction", logits[0].argmax(0).byte().cpu().numpy()))
        }
        shown.append(wandb.Image(to_rgb(item["image"], item["valid"], spec), masks=masks, caption=item["name"]))
    return shown


def _upload_model(board: Dashboard, run: Run) -> None:
    """Upload the model file; tag it `best` if no model on the same data and score is better."""
    import wandb

    summary = read_summary(run.path)
    facts = {key: summary[key] for key in ("score", "monitor")}
    facts["data_fingerprint"] = read_data(run.path)["fingerprint"]
    artifact = wandb.Artifact(ARTIFACT, type="model", metadata=facts | {"run": run.path.name})
    artifact.add_file(str(run.path / MODEL_FILE), policy="immutable")  # uploaded in place, as it is written once
    best = _best_of_sweep(run) if board.experiment.offline else _best_of_project(board, facts)
    aliases = ["latest", "best"] if facts["score"] is not None and facts["score"] >= best else ["latest"]
    board.experiment.log_artifact(artifact, aliases=aliases)


def _best_of_sweep(run: Run) -> float:
    """Return the highest score of a run's sweep, whose offline runs are uploaded later in any order."""
    scores = [read_summary(path.parent)["score"] for path in run.path.parent.glob(f"*/{SUMMARY}")]
    return max((score for score in scores if score is not None), default=-math.inf)


def _best_of_project(board: Dashboard, facts: Mapping[str, Any]) -> float:
    """Return the score of the project's best model; infinity if it is unknown or not comparable."""
    import wandb

    try:
        known = wandb.Api(timeout=10).artifact(f"{board.experiment.entity}/{board.experiment.project}/{ARTIFACT}:best")
        alike = all(known.metadata.get(key) == facts[key] for key in ("monitor", "data_fingerprint"))
        return float(known.metadata["score"]) if alike else math.inf
    except Exception as error:  # the exception differs between W&B versions
        is_missing = "not found" in str(error).lower() or "does not exist" in str(error).lower()
        return -math.inf if is_missing else math.inf
