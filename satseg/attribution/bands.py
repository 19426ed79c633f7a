"""Band importance: of single bands, and of groups of redundant bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from satseg.evaluate.metrics import confusion_matrices
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

MIN_CORRELATION = 0.9  # absolute correlation from which bands are grouped
DRAWS = 400  # bootstrap samples of images
LEVEL = 0.95  # of the bootstrap intervals
MIN_IMAGES = 5  # for a bootstrap to be meaningful


@dataclass(frozen=True)
class BandImportance:
    """Loss when bands are perturbed.

    Attributes:
        bands: Names of one band, or of a redundant group.
        permuted: Loss of mIoU over the classes in truth when each image gets the bands of another one.
        filled: The same when the bands are the training split's mean everywhere.
        by_class: Loss of IoU of each class under permutation; NaN if it does not occur.
        drawn: The larger of the two losses in each bootstrap sample (DRAWS,), the same samples for all bands; empty if
            there are too few images.
    """

    bands: tuple[str, ...]
    permuted: float
    filled: float
    by_class: tuple[float, ...]
    drawn: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.empty(0))

    @property
    def loss(self) -> float:
        """The larger of the two losses of mIoU."""
        return max(self.permuted, self.filled)

    @property
    def interval(self) -> tuple[float, float]:
        """Bootstrap interval of `loss`; NaN if there are too few images."""
        return _interval(self.drawn)

    def exceeds(self, other: BandImportance) -> bool:
        """Return True if losing these bands costs significantly more than losing the other ones."""
        return len(self.drawn) > 0 and _interval(self.drawn - other.drawn)[0] > 0


def _interval(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def band_importance(
    network: SegmentationNetwork, images: Tensor, valid: Tensor, truth: Tensor, names: Sequence[str] | None = None
) -> list[BandImportance]:
    """Measure the importance of bands alone and by group, on images of one size.

    Redundant bands look important under one measure and not under the other, so both are given.

    Args:
        network: In evaluation mode.
        images: Raw values (N, C, H, W), each of a different place than the one before it.
        valid: Boolean (N, H, W).
        truth: Class indices (N, H, W).
        names: Name of the image that each is a part of; parts of one image are drawn together. By default each is its
            own image.

    Returns:
        Most important first, by the larger of the two losses; empty if nothing is labelled.
    """
    bands = network.spec.inputs[0].bands
    whole = _matrices(network, images, valid, truth)
    means = network.normaliser.shift[0]
    statistics = network.spec.inputs[0].statistics
    if statistics is not None:
        means = torch.tensor(statistics.mean, device=images.device).view(-1, 1, 1)
    found: list[BandImportance] = []
    both = valid & valid.roll(1, 0)  # missing pixels of the other image are no content
    reference = whole if bool((both == valid).all()) else _matrices(network, images, both, truth)
    if not reference.any():
        return found
    times = _drawn_times(list(names) if names is not None else [str(i) for i in range(len(images))])
    for group in [[b] for b in range(len(bands))] + correlated_groups(images, valid):
        permuted, filled = images.float().clone(), images.float().clone()
        permuted[:, group] = permuted[:, group].roll(1, 0)
        filled[:, group] = means[group]
        by_other = _loss(reference, _matrices(network, permuted, both, truth), times)
        by_mean = _loss(whole, _matrices(network, filled, valid, truth), times)
        found.append(
            BandImportance(
                tuple(bands[b] for b in group),
                float(np.nanmean(by_other[0])),
                float(np.nanmean(by_mean[0])),
                tuple(by_other[0].tolist()),
                np.fmax(_mean(by_other[1:]), _mean(by_mean[1:])),
            )
        )
    return sorted(found, key=lambda i: -i.loss)


def _drawn_times(names: Sequence[str]) -> np.ndarray:
    """Return the weight of each part (1 + DRAWS, N): 1, then its image's count in each bootstrap sample."""
    kinds, indices = np.unique(names, return_inverse=True)
    once = np.ones((1, len(names)))
    if len(kinds) < MIN_IMAGES:
        return once
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), DRAWS)
    return np.concatenate([once, drawn[:, indices]])


def _loss(before: np.ndarray, after: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the loss of IoU by row of `times` and class (R, K); NaN for classes not in truth.

    Args:
        before: Counts (N, K, K), rows truth.
        after: The same with perturbed bands.
        times: Weight of each part (R, N).
    """
    in_truth = times @ before.sum(2) > 0
    return np.where(in_truth, _iou(before, times) - _iou(after, times), np.nan)


def _iou(matrices: np.ndarray, times: np.ndarray) -> np.ndarray:
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    union = matrices.sum(1) + matrices.sum(2) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        iou: np.ndarray = (times @ hits) / (times @ union)
    return iou


def _mean(losses: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that occur (R,); 0 if none does."""
    defined = ~np.isnan(losses)
    mean: np.ndarray = np.where(defined, losses, 0).sum(1) / np.maximum(defined.sum(1), 1)
    return mean


def correlated_groups(images: Tensor, valid: Tensor) -> list[list[int]]:
    """Return groups of two or more bands that are linked by correlations of at least MIN_CORRELATION."""
    values = images.float().movedim(1, 0)[:, valid].cpu().numpy()
    if values.shape[0] < 2 or values.shape[1] < 2:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        linked = np.abs(np.nan_to_num(np.corrcoef(values))) >= MIN_CORRELATION
    groups: list[list[int]] = []
    seen: set[int] = set()
    for band in range(len(values)):
        if band not in seen:
            group, frontier = {band}, {band}
            while frontier:
                frontier = {int(b) for f in frontier for b in np.flatnonzero(linked[f])} - group
                group |= frontier
            seen |= group
            groups.append(sorted(group))
    return [g for g in groups if len(g) > 1]


def _matrices(network: SegmentationNetwork, images: Tensor, valid: Tensor, truth: Tensor) -> np.ndarray:
    """Return the confusion matrix of each image (N, K, K), rows truth."""
    matrices = [
        confusion_matrices(
            segment(network, images[i : i + 1], valid[i : i + 1]).argmax(1),
            truth[i : i + 1],
            valid[i : i + 1],
            network.spec.num_classes,
        )
        for i in range(len(images))
    ]
    return torch.cat(matrices).cpu().numpy()
