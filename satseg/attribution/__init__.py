"""Where the evidence for a class comes from."""

from satseg.attribution.additions import Addition, addition
from satseg.attribution.explanation import LAYER_METHODS, METHODS, Explanation, explain, layers_of, num_passes
from satseg.attribution.layers import Layer
from satseg.attribution.region import Region, find_region

__all__ = [
    "LAYER_METHODS",
    "METHODS",
    "Addition",
    "Explanation",
    "Layer",
    "Region",
    "addition",
    "explain",
    "find_region",
    "layers_of",
    "num_passes",
]
