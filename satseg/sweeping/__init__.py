"""Many runs from one command: which there are, which are missing, and how they ended."""

from satseg.sweeping.search import Search, search_space
from satseg.sweeping.sweep import Sweep, grid, parse

__all__ = ["Search", "Sweep", "grid", "parse", "search_space"]
