"""Spatial distribution of the evidence for an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from satseg.attribution.occlusion import occlusion
from satseg.attribution.region import class_leads
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

BORDER = 4  # pixels on either side of a region's edge


@dataclass(frozen=True)
class Shares:
    """Shares of a map's positive evidence, and of the image's pixels for comparison.

    Attributes:
        by_truth: Evidence by true class (K,), then unlabelled; sums to 1.
        pixels_by_truth: The same for pixels.
        inside: Evidence in the region, without its border.
        border: Evidence at the region's border.
        outside: The rest.
    """

    by_truth: tuple[float, ...]
    pixels_by_truth: tuple[float, ...]
    inside: float
    border: float
    outside: float


@dataclass(frozen=True)
class Maps:
    """Evidence maps of one case: for the predicted class, for the true one, and for the one over the other.

    Attributes:
        predicted: Map (H, W).
        true: Map (H, W).
        contrast: Map (H, W).
        shares: Shares of the contrast's evidence; None if it has no positive part.
    """

    predicted: np.ndarray
    true: np.ndarray
    contrast: np.ndarray
    shares: Shares | None


def explain_error(network: SegmentationNetwork, case: Case) -> Maps:
    """Compute the three maps of an error in one set of forward passes."""
    truth, predicted = case.component.truth, case.component.predicted
    measure = class_leads(case.pixels, (predicted, None), (truth, None), (predicted, truth))
    one, other, lead = occlusion(network, case.image, case.valid, measure).cpu().numpy()
    truths, own, valid = (t.cpu().numpy() for t in (case.truth, case.own, case.valid[0]))
    return Maps(one, other, lead, evidence_shares(lead, truths, own, valid, network.spec.num_classes))


def evidence_shares(
    evidence: np.ndarray, truth: np.ndarray, region: np.ndarray, valid: np.ndarray, num_classes: int
) -> Shares | None:
    """Return the shares of a map's positive part by true class and by position; None if it has none.

    Args:
        evidence: The map (H, W).
        truth: True class indices (H, W); values other than 0 to K - 1 count as unlabelled.
        region: Boolean (H, W).
        valid: Boolean (H, W); the rest is no part of the image.
        num_classes: K.
    """
    positive = np.where(valid, np.clip(evidence, 0, None), 0).astype(np.float64)
    total = positive.sum()
    if total <= 0:
        return None
    labels = np.minimum(truth, num_classes)[valid]
    border = binary_dilation(region, iterations=BORDER) & ~binary_erosion(region, iterations=BORDER)
    at_border, inside = positive[border].sum() / total, positive[region & ~border].sum() / total
    return Shares(
        tuple((np.bincount(labels, positive[valid], num_classes + 1) / total).tolist()),
        tuple((np.bincount(labels, minlength=num_classes + 1) / labels.size).tolist()),
        float(inside),
        float(at_border),
        float(1 - inside - at_border),
    )


def mean_shares(shares: Sequence[Shares]) -> Shares:
    """Return the average over cases."""
    columns = [np.mean([getattr(s, name) for s in shares], axis=0) for name in ("by_truth", "pixels_by_truth")]
    places = [float(np.mean([getattr(s, name) for s in shares])) for name in ("inside", "border", "outside")]
    return Shares(tuple(columns[0].tolist()), tuple(columns[1].tolist()), *places)
