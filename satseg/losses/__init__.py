"""Losses over valid pixels."""

from satseg.losses.focal import FocalLoss
from satseg.losses.terms import MapLoss
from satseg.losses.weighted_sum import WeightedSum

__all__ = ["FocalLoss", "MapLoss", "WeightedSum"]
