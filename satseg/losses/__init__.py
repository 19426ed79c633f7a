"""Losses that see valid pixels only."""

from satseg.losses.focal import FocalLoss
from satseg.losses.weighted_sum import WeightedSum

__all__ = ["FocalLoss", "WeightedSum"]
