"""Error-adjusted class areas of a map with confidence intervals, from the confusion matrices of a split.

Olofsson et al. 2014 (Remote Sensing of Environment 148), with cluster sampling: test images are sampled whole, and
errors within one are correlated, so the variance comes from the differences between images, not from the number of
pixels.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t

from satseg.errors import ConfigError, DataError
from satseg.evaluate.files import write_csv

if TYPE_CHECKING:  # imports Lightning, which `satseg.report` does not need
    from satseg.data import SegmentationDataModule
    from satseg.evaluate.scoring import EvaluationResult, Scoring

FEW_CLUSTERS = 15  # clusters below which an interval is only approximate


@dataclass(frozen=True)
class AreaEstimate:
    """Share of each class (K,) in a map's area, with its standard error and confidence interval.

    Attributes:
        mapped: Share by pixel counts of the map.
        corrected: Share estimated from map and test images.
        error: Standard error of `corrected`.
        low: Lower bound of the interval, at least 0.
        high: Upper bound, at most 1.
        num_clusters: Number of independent groups of test images.
    """

    mapped: np.ndarray
    corrected: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_clusters: int


def estimate_areas(matrices: np.ndarray, mapped: np.ndarray, confidence: float = 0.95) -> AreaEstimate:
    """Adjust the class areas of a map by the confusion matrices of a sample.

    Args:
        matrices: Counts (M, K, K), one matrix per cluster of the sample; rows truth, columns prediction.
        mapped: Area or pixel count (K,) of each class in the map.
        confidence: Level of the interval.

    Returns:
        Shares of the map's area. A class that is in the map but is never predicted in the sample keeps its mapped area.

    Raises:
        DataError: If there are fewer than two clusters, or the map is empty.
    """
    clusters, total = len(matrices), float(mapped.sum())
    if clusters < 2 or total <= 0:
        raise DataError("An interval needs a map that is not empty, and test images of at least two tiles or scenes.")
    weights = mapped / total
    counts = matrices.transpose(0, 2, 1).astype(np.float64)  # (M, prediction, truth)
    predicted = counts.sum(2)  # (M, K)
    seen = predicted.sum(0)
    ratios = np.where(seen[:, None] > 0, counts.sum(0) / np.maximum(seen, 1)[:, None], np.eye(len(mapped)))
    corrected = weights @ ratios
    scale = np.where(seen > 0, weights / np.maximum(seen, 1), 0.0)
    residuals = np.einsum("i,mij->mj", scale, counts - ratios * predicted[:, :, None])  # linearised, per cluster
    error = np.sqrt(clusters / (clusters - 1) * (residuals**2).sum(0))
    margin = t.ppf((1 + confidence) / 2, clusters - 1) * error
    low, high = np.maximum(corrected - margin, 0), np.minimum(corrected + margin, 1)
    return AreaEstimate(weights, corrected, error, low, high, clusters)


def by_cluster(matrices: np.ndarray, groups: list[str]) -> np.ndarray:
    """Sum the matrices (N, K, K) of the images of each group; return (M, K, K), sorted by group name."""
    names, index = np.unique(groups, return_inverse=True)
    result = np.zeros((len(names), *matrices.shape[1:]), np.int64)
    np.add.at(result, index, matrices)
    return result


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
