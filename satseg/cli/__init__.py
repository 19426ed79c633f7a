"""Command line: entry points, checks of options, and error messages."""

from satseg.cli.entry import entry_point
from satseg.cli.messages import describe

__all__ = ["describe", "entry_point"]
