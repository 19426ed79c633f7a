"""Error-adjusted class areas with confidence intervals.

Olofsson et al. 2014 (Remote Sensing of Environment 148), with cluster sampling: test images are sampled whole, and
errors within one are correlated, so the variance comes from the differences between images, not from the number of
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from satseg.errors import DataError

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
