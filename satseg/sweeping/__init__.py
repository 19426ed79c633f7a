"""Many runs from one command: which there are, which are missing, and how they ended."""

from satseg.sweeping.search import Search, search_space
from satseg.sweeping.sweep import Sweep, grid, lines_of, parse

__all__ = ["Search", "Sweep", "grid", "lines_of", "parse", "search_space"]
