"""Area of each class with an interval: what a map says, corrected by where it was seen to be wrong.

Olofsson et al. 2014 (Remote Sensing of Environment 148), with clusters: test images are drawn whole, and errors within
one are alike, so the variance comes from the differences between images, not from the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from satseg.errors import DataError

FEW = 15  # clusters below which an interval is a rough one


@dataclass(frozen=True)
class AreaEstimate:
    """The share of each class (K,) in a map's area, with its standard error and interval.

    Attributes:
        mapped: Share by counting the map.
        corrected: Share as estimated from map and test images.
        error: Standard error of `corrected`.
        low: Lower end of the interval, at least 0.
        high: Upper end, at most 1.
        num_clusters: Independent groups of test images.
    """

    mapped: np.ndarray
    corrected: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_clusters: int


def estimate_areas(matrices: np.ndarray, mapped: np.ndarray, confidence: float = 0.95) -> AreaEstimate:
    """Correct the areas of a map by the confusion matrices of a sample of it.

    Args:
        matrices: Counts (M, K, K) for each cluster of the sample, rows truth, columns prediction.
        mapped: Area or pixels (K,) of each class in the map.
        confidence: Of the interval.

    Returns:
        Shares of the map's area. A class that is mapped but predicted nowhere in the sample is taken as it is mapped.

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
    residuals = np.einsum("i,mij->mj", scale, counts - ratios * predicted[:, :, None])  # linearised, by cluster
    error = np.sqrt(clusters / (clusters - 1) * (residuals**2).sum(0))
    margin = t.ppf((1 + confidence) / 2, clusters - 1) * error
    low, high = np.maximum(corrected - margin, 0), np.minimum(corrected + margin, 1)
    return AreaEstimate(weights, corrected, error, low, high, clusters)


def by_cluster(matrices: np.ndarray, groups: list[str]) -> np.ndarray:
    """Add up the matrices (N, K, K) of the images of each group; returns (M, K, K), by the groups' names."""
    names, index = np.unique(groups, return_inverse=True)
    result = np.zeros((len(names), *matrices.shape[1:]), np.int64)
    np.add.at(result, index, matrices)
    return result
