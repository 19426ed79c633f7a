"""Comparison of an evidence map with the prediction that it explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

REDUNDANT = 0.9  # correlation above which 80 % of a map's variance is that of the prediction


@dataclass(frozen=True)
class PredictionComparison:
    """Relation of a map to the prediction of its class in the same image.

    Attributes:
        correlation: Correlation of the map with the probability of the class; NaN if either is constant.
        outside: Share of the evidence for the class that lies outside the pixels predicted as it; NaN if there is no
            evidence for the class.
        outside_pixels: Share of the image outside them: the value of `outside` for uniform evidence.
    """

    correlation: float
    outside: float
    outside_pixels: float

    @property
    def repeats(self) -> bool:
        """True if the map is little more than a copy of the prediction."""
        return self.correlation >= REDUNDANT

    @property
    def summary(self) -> str:
        """One line on what the map adds to the prediction."""
        if math.isnan(self.outside):
            return "this map has no evidence for the class"
        if self.repeats:
            return f"this map repeats the prediction (correlation {self.correlation:.2f}) and explains little"
        line = f"evidence outside the predicted area: {self.outside:.0%}, on {self.outside_pixels:.0%} of the image"
        return (
            line if math.isnan(self.correlation) else f"{line}; correlation with the prediction {self.correlation:.2f}"
        )


def compare_with_prediction(
    evidence: Tensor, probability: Tensor, predicted: Tensor, valid: Tensor
) -> PredictionComparison:
    """Compare a map with the prediction.

    Args:
        evidence: Map (H, W).
        probability: Probability of the class (H, W).
        predicted: True where the class is predicted (H, W), boolean.
        valid: Boolean (H, W); the rest is no part of the image.
    """
    values, likely, inside = evidence[valid].double(), probability[valid].double(), predicted[valid]
    positive = values.clamp(min=0)
    total = float(positive.sum())
    return PredictionComparison(
        _correlation(values, likely),
        float(positive[~inside].sum()) / total if total > 0 else math.nan,
        float((~inside).double().mean()),
    )


def _correlation(one: Tensor, other: Tensor) -> float:
    if len(one) < 2 or bool(one.eq(one[0]).all()) or bool(other.eq(other[0]).all()):
        return math.nan
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])
