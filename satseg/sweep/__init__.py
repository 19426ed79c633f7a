"""Sweeps: planning many runs, running the missing ones, and collecting their outcomes."""

from satseg.sweep.search import Search, search_space
from satseg.sweep.sweep import Sweep, grid, parse, to_overrides

__all__ = ["Search", "Sweep", "grid", "parse", "search_space", "to_overrides"]
