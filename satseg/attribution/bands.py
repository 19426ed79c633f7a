"""How much each band matters, alone and together with the bands that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from satseg.inference.windows import segment
from satseg.metrics import Scores, confusion_matrices
from satseg.models import SegmentationNetwork

ALIKE = 0.9  # correlation, of either sign, from which bands are taken together


@dataclass(frozen=True)
class BandImportance:
    """What is lost when bands are spoilt.

    Attributes:
        bands: Names: one, or a group that says nearly the same.
        permuted: Loss of mIoU when each image gets the bands of another one, over the classes that occur in truth.
        filled: The same when they are the training split's mean everywhere.
        by_class: Loss of IoU of each class under permutation; NaN where it does not occur.
    """

    bands: tuple[str, ...]
    permuted: float
    filled: float
    by_class: tuple[float, ...]


def band_importance(network: SegmentationNetwork, images: Tensor, valid: Tensor, truth: Tensor) -> list[BandImportance]:
    """Measure bands alone and by group, on images of one size.

    Redundant bands look important under one measure and not under the other, so that both are given.

    Args:
        network: In evaluation mode.
        images: Raw numbers (N, C, H, W), each of another place than the one before it.
        valid: Boolean (N, H, W).
        truth: Class indices (N, H, W).

    Returns:
        The most important first, by the larger of the two losses; empty where nothing is labelled.
    """
    names = network.spec.inputs[0].bands
    whole = _scores(network, images, valid, truth)
    means = network.normaliser.shift[0]
    statistics = network.spec.inputs[0].statistics
    if statistics is not None:
        means = torch.tensor(statistics.mean, device=images.device).view(-1, 1, 1)
    found: list[BandImportance] = []
    both = valid & valid.roll(1, 0)  # another image's missing pixels are no content
    reference = whole if bool((both == valid).all()) else _scores(network, images, both, truth)
    if not reference.matrix.any():
        return found
    for group in [[b] for b in range(len(names))] + alike(images, valid):
        permuted, filled = images.float().clone(), images.float().clone()
        permuted[:, group] = permuted[:, group].roll(1, 0)
        filled[:, group] = means[group]
        by_class = _loss(reference, _scores(network, permuted, both, truth))
        by_mean = _loss(whole, _scores(network, filled, valid, truth))
        found.append(
            BandImportance(
                tuple(names[b] for b in group),
                float(np.nanmean(by_class)),
                float(np.nanmean(by_mean)),
                tuple(by_class.tolist()),
            )
        )
    return sorted(found, key=lambda i: -max(i.permuted, i.filled))


def _loss(before: Scores, after: Scores) -> np.ndarray:
    """Return the loss of IoU of each class (K,); NaN for one that does not occur in truth."""
    return np.where(before.matrix.sum(1) > 0, before.iou - after.iou, np.nan)


def alike(images: Tensor, valid: Tensor) -> list[list[int]]:
    """Return groups of two or more bands, each correlated with another of its group by ALIKE or more."""
    values = images.float().movedim(1, 0)[:, valid].cpu().numpy()
    if values.shape[0] < 2 or values.shape[1] < 2:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        linked = np.abs(np.nan_to_num(np.corrcoef(values))) >= ALIKE
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


def _scores(network: SegmentationNetwork, images: Tensor, valid: Tensor, truth: Tensor) -> Scores:
    matrices: Sequence[Tensor] = [
        confusion_matrices(
            segment(network, images[i : i + 1], valid[i : i + 1]).argmax(1),
            truth[i : i + 1],
            valid[i : i + 1],
            network.spec.num_classes,
        )
        for i in range(len(images))
    ]
    return Scores.from_matrix(torch.cat(list(matrices)).sum(0), network.spec.class_names)
