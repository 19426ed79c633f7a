"""Where the evidence for a class comes from."""

from satseg.attribution.explanation import METHODS, Explanation, explain
from satseg.attribution.region import Region, find_region

__all__ = ["METHODS", "Explanation", "Region", "explain", "find_region"]
