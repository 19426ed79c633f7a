"""Attribution: maps of the evidence for a class, and their evaluation."""

from satseg.attribution.comparison import PredictionComparison, compare_with_prediction
from satseg.attribution.explanation import LAYER_METHODS, METHODS, Explanation, explain, layers_of, num_passes
from satseg.attribution.layers import Layer
from satseg.attribution.region import Region, find_region

__all__ = [
    "LAYER_METHODS",
    "METHODS",
    "Explanation",
    "Layer",
    "PredictionComparison",
    "Region",
    "compare_with_prediction",
    "explain",
    "find_region",
    "layers_of",
    "num_passes",
]
