"""Sampling of training patches: their size, and where in the images they lie."""

from satseg.data.sampling.locations import Area, Balanced

__all__ = ["Area", "Balanced"]
