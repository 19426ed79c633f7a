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

ALIKE = 0.9  # correlation from which bands are taken together


@dataclass(frozen=True)
class BandImportance:
    """What is lost when bands are spoilt.

    Attributes:
        bands: Names: one, or a group that says nearly the same.
        permuted: Loss of mIoU when each image gets the bands of another one.
        filled: Loss of mIoU when they are the training split's mean everywhere.
        by_class: Loss of IoU of each class under permutation; NaN where the class is absent.
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
        images: Raw numbers (N, C, H, W), N of 2 or more.
        valid: Boolean (N, H, W).
        truth: Class indices (N, H, W).

    Returns:
        The most important first, by the larger of the two losses.
    """
    names = network.spec.inputs[0].bands
    whole = _scores(network, images, valid, truth)
    means = network.normaliser.shift[0]
    statistics = network.spec.inputs[0].statistics
    if statistics is not None:
        means = torch.tensor(statistics.mean, device=images.device).view(-1, 1, 1)
    found = []
    for group in [[b] for b in range(len(names))] + alike(images, valid):
        permuted, filled = images.float().clone(), images.float().clone()
        permuted[:, group] = permuted[:, group].roll(1, 0)
        filled[:, group] = means[group]
        both = valid & valid.roll(1, 0)  # another image's missing pixels are no content
        reference = whole if bool(valid.all()) else _scores(network, images, both, truth)
        spoilt = _scores(network, permuted, both, truth)
        found.append(
            BandImportance(
                tuple(names[b] for b in group),
                reference.miou - spoilt.miou,
                whole.miou - _scores(network, filled, valid, truth).miou,
                tuple((reference.iou - spoilt.iou).tolist()),
            )
        )
    return sorted(found, key=lambda i: -max(i.permuted, i.filled))


def alike(images: Tensor, valid: Tensor) -> list[list[int]]:
    """Return groups of two or more bands, each correlated with another of its group by ALIKE or more."""
    values = images.float().movedim(1, 0)[:, valid].cpu().numpy()
    if values.shape[0] < 2 or values.shape[1] < 2:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        linked = np.nan_to_num(np.corrcoef(values)) >= ALIKE
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
