"""Where the evidence for a class comes from."""

from satseg.attribution.explanation import LAYER_METHODS, METHODS, Explanation, explain
from satseg.attribution.region import Region, find_region

__all__ = ["LAYER_METHODS", "METHODS", "Explanation", "Region", "explain", "find_region"]
