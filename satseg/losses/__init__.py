"""Losses over valid pixels."""

from satseg.losses.focal import FocalLoss
from satseg.losses.weighted_sum import MapLoss, WeightedSum

__all__ = ["FocalLoss", "MapLoss", "WeightedSum"]
