"""Standard errors and confidence intervals of mean scores and their differences.

Two sources of variance add up. Groups of test images (tiles, scenes) are resampled, because pixels and parts of one
scene are correlated; all runs share the same draws, so differences are paired. The variance between seeds is estimated
from the runs, with Student's t for small numbers (Bouthillier et al. 2021). Degrees of freedom follow Welch and
Satterthwaite; the best of several entries is compared by Tukey's range test, because it was selected for its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import studentized_range, t

from satseg.evaluate.area_estimates import by_cluster

CONFIDENCE = 0.95


class StandardError(NamedTuple):
    """A standard error with its degrees of freedom."""

    value: float
    dof: float


def draw_groups(num_groups: int, draws: int, seed: int) -> np.ndarray:
    """Return bootstrap counts (draws, groups); each row sums to the number of groups."""
    random = np.random.default_rng(seed)
    return random.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=draws)


def resampled_miou(matrices: np.ndarray, groups: Sequence[str], drawn: np.ndarray) -> np.ndarray:
    """Return the mIoU (draws,) of one run for each resampled test set.

    Args:
        matrices: Confusion matrices (N, K, K) of the images.
        groups: The group of each image.
        drawn: Counts from `draw_groups`, with groups sorted by name.
    """
    clusters = by_cluster(matrices, list(groups))
    hits = drawn @ np.diagonal(clusters, axis1=1, axis2=2)
    union = drawn @ (clusters.sum(1) + clusters.sum(2)) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(union > 0, hits / union, np.nan)
    counted = np.isfinite(ious)
    total = np.where(counted, ious, 0).sum(1)
    return np.asarray(total / np.maximum(counted.sum(1), 1), np.float64)


def standard_error(resampled: np.ndarray, num_groups: int, seeds: Sequence[np.ndarray]) -> StandardError:
    """Return the standard error of a mean, or of a difference of means.

    Args:
        resampled: Its value (draws,) for resampled groups of test images, with these seeds.
        num_groups: Number of groups; a single group gives no estimate of the variance between groups.
        seeds: Scores by seed of each mean; a single seed gives no estimate of the variance between seeds.
    """
    parts = [(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in seeds if len(s) > 1]
    if num_groups > 1:
        parts.append((float(resampled.var(ddof=1)) * num_groups / (num_groups - 1), num_groups - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return StandardError(0.0, np.inf)
    return StandardError(float(np.sqrt(total)), total**2 / sum(variance**2 / dof for variance, dof in parts))


def interval(mean: float, error: StandardError, compared: int = 0) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean, or of a difference between entries.

    Args:
        mean: The mean or difference.
        error: Its standard error.
        compared: Number of entries that are compared; 0 for a single mean.
    """
    factor = _range(compared, round(min(error.dof, 1e4), 1)) if compared else t.ppf((1 + CONFIDENCE) / 2, error.dof)
    margin = float(factor) * error.value
    return mean - margin, mean + margin


@cache
def _range(compared: int, dof: float) -> float:
    return float(studentized_range.ppf(CONFIDENCE, max(compared, 2), max(dof, 1.0)) / np.sqrt(2))
