"""Class areas of a map, corrected by the confusion that a split shows."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from satseg.data import SegmentationDataModule
from satseg.errors import ConfigError
from satseg.evaluate.area_estimates import FEW, AreaEstimate, by_cluster, estimate_areas
from satseg.evaluate.files import write_csv
from satseg.evaluate.scoring import EvaluationResult, Scoring


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
