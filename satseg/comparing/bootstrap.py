"""Scores of resampled test sets and seeds, the same draws for every run, so that differences are paired.

What is resampled are groups of images (tiles, scenes), as pixels and parts of one scene say the same thing twice
(Efron and Tibshirani 1993, chapter 8), and the seeds of each configuration (Bouthillier et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satseg.estimation import by_cluster


def draw_groups(num_groups: int, draws: int, seed: int) -> np.ndarray:
    """Return how often each group is drawn: (draws, groups), each row adds up to the number of groups."""
    random = np.random.default_rng(seed)
    return random.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=draws)


def resampled_miou(matrices: np.ndarray, groups: Sequence[str], drawn: np.ndarray) -> np.ndarray:
    """Return the mIoU (draws,) of one run for each resampled test set.

    Args:
        matrices: Confusion matrices (N, K, K) of the images.
        groups: The group of each.
        drawn: From `draw_groups`, for the groups by name.
    """
    clusters = by_cluster(matrices, list(groups))
    hits = drawn @ np.diagonal(clusters, axis1=1, axis2=2)
    union = drawn @ (clusters.sum(1) + clusters.sum(2)) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(union > 0, hits / union, np.nan)
    counted = np.isfinite(ious)
    total = np.where(counted, ious, 0).sum(1)
    return np.asarray(total / np.maximum(counted.sum(1), 1), np.float64)


def over_seeds(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the mean (draws,) over seeds that are resampled, too: scores (seeds, draws) of one configuration."""
    seeds, draws = scores.shape
    chosen = random.integers(seeds, size=(seeds, draws))
    return np.asarray(np.take_along_axis(scores, chosen, 0).mean(0), np.float64)


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
