"""Many runs from one command: which there are, which are missing, and how they ended."""

from satseg.sweep.search import Search, search_space
from satseg.sweep.sweep import Sweep, grid, lines_of, parse

__all__ = ["Search", "Sweep", "grid", "lines_of", "parse", "search_space"]
