"""What `satseg.evaluate` does beside scoring: a temperature for the model, and areas with intervals."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from satseg.calibration import fit_temperature, some_pixels
from satseg.checkpoint import read_document
from satseg.data import SegmentationDataModule
from satseg.errors import CheckpointError, ConfigError
from satseg.estimation import FEW, AreaEstimate, by_cluster, estimate_areas
from satseg.evaluation import EvaluationResult, Scoring, without_edges
from satseg.inference.combining import views
from satseg.inference.windows import segment
from satseg.locks import alone_at
from satseg.model_file import write_model_file
from satseg.models import SegmentationNetwork
from satseg.named_models import named_models
from satseg.runs import model_path
from satseg.score_files import write_csv

CALIBRATED = "model_calibrated.safetensors"


def scoring(cfg: DictConfig) -> Scoring:
    """Return the choices of the protocol.

    Raises:
        ConfigError: If one is out of its range.
    """
    views(cfg.tta)
    if not isinstance(cfg.ignore_edges, int) or not 0 <= cfg.ignore_edges <= 100:
        raise ConfigError(f"ignore_edges={cfg.ignore_edges}: expected pixels from 0 to 100.")
    if cfg.ignore_edges and cfg.map_areas:
        raise ConfigError("map_areas= needs all pixels, as maps err most along borders: leave ignore_edges at 0.")
    several = len(named_models(cfg.checkpoint, Path(cfg.runs_dir), tell=False))
    if cfg.calibrate and several > 1:
        raise ConfigError(
            "calibrate=true fits one model: calibrate each by itself, and average the model_calibrated.safetensors."
        )
    return Scoring(cfg.tta, cfg.ignore_edges, several)


def calibrate(
    checkpoint: Path, network: SegmentationNetwork, datamodule: SegmentationDataModule, scoring: Scoring
) -> Path:
    """Fit a temperature on the validation split, set it, and write the model with it to a new file beside the old.

    Args:
        checkpoint: A run folder or a model file.
        network: The model that was loaded from it; its temperature is changed.
        datamodule: Its data.
        scoring: Which pixels count.

    Raises:
        CheckpointError: If the checkpoint is for resuming only.
    """
    source = model_path(checkpoint)
    if source.suffix == ".ckpt":
        raise CheckpointError(f"calibrate=true needs a model file; {source} is for resuming a run.")
    path = source.with_name(CALIBRATED)
    with alone_at(path):
        network.temperature = 1.0
        network.temperature = fit_temperature(_pixels(network, datamodule, scoring))
        write_model_file(path, network, replace(read_document(source), temperature=network.temperature))
    print(f"Temperature {network.temperature:.3f}, fitted on val: {path}")
    return path


def _pixels(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, scoring: Scoring
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(network.parameters()).device
    for batch in datamodule.eval_dataloader("val"):
        if "failure" in batch:
            batch["failure"].raise_error()
        image, mask, valid = (batch[key].to(device) for key in ("image", "mask", "valid"))
        with torch.no_grad():
            yield some_pixels(segment(network, image, valid), without_edges(mask, scoring.ignore_edges), valid)


def corrected_areas(
    result: EvaluationResult, map_areas: Path, datamodule: SegmentationDataModule, split: str, folder: Path
) -> str:
    """Correct a map's class areas by a split's confusion, write areas.csv and return a table.

    Args:
        result: The split's scores.
        map_areas: What `satseg.predict areas=true` wrote.
        datamodule: Says how the split was drawn.
        split: Its name.
        folder: Where to write to.

    Raises:
        ConfigError: If the file is no table of the model's classes.
    """
    mapped, unit, total = _read_areas(map_areas, result.class_names)
    matrices = np.stack([image.scores.matrix for image in result.images])
    estimate = estimate_areas(by_cluster(matrices, [image.group for image in result.images]), mapped)
    for warning in _doubts(estimate, datamodule, split, result.scoring):
        print(f"Warning: {warning}", file=sys.stderr)
    rows = [
        [name, *(share * total for share in shares)]
        for name, *shares in zip(
            result.class_names, estimate.mapped, estimate.corrected, estimate.low, estimate.high, strict=True
        )
    ]
    header = ["class", f"mapped_{unit}", f"corrected_{unit}", f"low_{unit}", f"high_{unit}"]
    write_csv(folder / "areas.csv", [header, *[[r[0], *map(float, r[1:])] for r in rows]])
    table = [f"| class | mapped, {unit} | corrected, {unit} | 95 % interval |", "| --- | --: | --: | --- |"]
    table += [f"| {r[0]} | {r[1]:,.4g} | {r[2]:,.4g} | {r[3]:,.4g} to {r[4]:,.4g} |" for r in rows]
    return "\n".join(table)


def _read_areas(path: Path, class_names: tuple[str, ...]) -> tuple[np.ndarray, str, float]:
    """Return the area of each class, its unit, and the whole."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = {row["class"]: row for row in csv.DictReader(file)}
        unit = "ha" if all(row["area_ha"] for row in rows.values()) else "pixels"
        column = "area_ha" if unit == "ha" else "pixels"
        values = np.array([float(rows[name][column]) for name in class_names])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"map_areas={path}: expected the class areas that satseg.predict areas=true writes, with the classes "
            f"{', '.join(class_names)} ({type(error).__name__}: {error})."
        ) from error
    return values, unit, float(values.sum())


def _doubts(estimate: AreaEstimate, datamodule: SegmentationDataModule, split: str, scoring: Scoring) -> list[str]:
    """Return what a reader of the intervals must know."""
    doubts = []
    if split == "train":
        doubts.append("the model has seen these images: its errors elsewhere are more, and the areas are biased.")
    if scoring.tta != "none":
        doubts.append(f"the errors are those with tta={scoring.tta}: the map must have been made with it, too.")
    if not datamodule.is_probability_sample:
        doubts.append(
            f"the {split} split was chosen, not drawn at random from the mapped area: the intervals hold for places "
            "like its images only."
        )
    if estimate.num_clusters < FEW:
        doubts.append(f"{estimate.num_clusters} independent groups of images are few: the intervals are rough.")
    return doubts
