"""Many runs from one command: which there are, which are missing, and how they ended."""

from satseg.sweep.search import Search, search_space
from satseg.sweep.sweep import Sweep, grid, parse, to_overrides

__all__ = ["Search", "Sweep", "grid", "parse", "search_space", "to_overrides"]
