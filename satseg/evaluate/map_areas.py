"""Error-adjusted class areas of a map, from the confusion matrices of a split."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from satseg.data import SegmentationDataModule
from satseg.errors import ConfigError
from satseg.evaluate.area_estimates import FEW_CLUSTERS, AreaEstimate, by_cluster, estimate_areas
from satseg.evaluate.files import write_csv
from satseg.evaluate.scoring import EvaluationResult, Scoring


def corrected_areas(
    result: EvaluationResult, map_areas: Path, datamodule: SegmentationDataModule, split: str, folder: Path
) -> str:
    """Adjust a map's class areas by a split's confusion matrices, write areas.csv and return a table.

    Args:
        result: The split's scores.
        map_areas: CSV file written by `satseg.predict areas=true`.
        datamodule: The data; knows how the split was sampled.
        split: Its name.
        folder: Output folder.

    Raises:
        ConfigError: If the file is not a table of the model's classes.
    """
    mapped, unit, total = _read_areas(map_areas, result.class_names)
    matrices = np.stack([image.scores.matrix for image in result.images])
    estimate = estimate_areas(by_cluster(matrices, [image.group for image in result.images]), mapped)
    for warning in _caveats(estimate, datamodule, split, result.scoring):
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
    """Return the area of each class, the unit, and the total."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = {row["class"]: row for row in csv.DictReader(file)}
        unit = "ha" if all(row["area_ha"] for row in rows.values()) else "pixels"
        column = "area_ha" if unit == "ha" else "pixels"
        values = np.array([float(rows[name][column]) for name in class_names])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"map_areas={path}: expected class areas as written by satseg.predict areas=true, with the classes "
            f"{', '.join(class_names)} ({type(error).__name__}: {error})."
        ) from error
    return values, unit, float(values.sum())


def _caveats(estimate: AreaEstimate, datamodule: SegmentationDataModule, split: str, scoring: Scoring) -> list[str]:
    """Return caveats for the interpretation of the intervals."""
    caveats = []
    if split == "train":
        caveats.append(
            "the model was trained on these images: it makes more errors elsewhere, and the areas are biased."
        )
    if scoring.tta != "none":
        caveats.append(
            f"the errors are those with tta={scoring.tta}: the map must have been made with the same option."
        )
    if not datamodule.is_probability_sample:
        caveats.append(
            f"the {split} split is not a random sample of the mapped area: the intervals apply only to locations "
            "similar to its images."
        )
    if estimate.num_clusters < FEW_CLUSTERS:
        caveats.append(
            f"there are only {estimate.num_clusters} independent groups of images: the intervals are approximate."
        )
    return caveats
