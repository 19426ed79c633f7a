"""How sure a mean score or a difference is: the test images and the seeds could have been others.

Two sources add up. Groups of test images (tiles, scenes) are resampled, the same draws for every run, so that
differences are paired: pixels and parts of one scene say the same thing twice. Seeds differ by what they are seen to
differ, with Student's correction for being few (Bouthillier et al. 2021). Degrees of freedom follow Welch and
Satterthwaite; the best of many is compared by Tukey's range, as it was chosen for leading.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import studentized_range, t

from satseg.evaluate.area_estimates import by_cluster

CONFIDENCE = 0.95


class Sureness(NamedTuple):
    """A standard error, and the degrees of freedom that it is known with."""

    error: float
    freedom: float


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


def sureness(resampled: np.ndarray, num_groups: int, seeds: Sequence[np.ndarray]) -> Sureness:
    """Return how sure a mean, or a difference of means, is.

    Args:
        resampled: Its value (draws,) for resampled groups of test images, with these seeds.
        num_groups: How many groups there are; one says nothing of other places.
        seeds: The scores by seed that each mean is taken over; one seed says nothing of other seeds.
    """
    parts = [(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in seeds if len(s) > 1]
    if num_groups > 1:
        parts.append((float(resampled.var(ddof=1)) * num_groups / (num_groups - 1), num_groups - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return Sureness(0.0, np.inf)
    return Sureness(float(np.sqrt(total)), total**2 / sum(variance**2 / freedom for variance, freedom in parts))


def interval(mean: float, sure: Sureness, compared: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean, or of one of the differences among so many that are compared."""
    factor = (
        _range(compared, round(min(sure.freedom, 1e4), 1)) if compared else t.ppf((1 + CONFIDENCE) / 2, sure.freedom)
    )
    margin = float(factor) * sure.error
    return mean - margin, mean + margin


@cache
def _range(compared: int, freedom: float) -> float:
    return float(studentized_range.ppf(CONFIDENCE, max(compared, 2), max(freedom, 1.0)) / np.sqrt(2))
