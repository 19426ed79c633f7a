"""Many runs side by side: who leads, by how much, and whether that is more than chance."""

from satseg.comparing.boards import Board, Entry, make_boards
from satseg.comparing.records import RunRecord, find_runs, usual_evaluation
from satseg.comparing.write import write_comparison

__all__ = ["Board", "Entry", "RunRecord", "find_runs", "make_boards", "usual_evaluation", "write_comparison"]
