"""Reading and writing the results of a run: summary, failure and metrics."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from typing import Any

from satseg.errors import RecordError, ResourceError
from satseg.files import write_json
from satseg.runs.documents import read_fields, read_text
from satseg.runs.layout import FAILURE, SUMMARY

MAX_TABLE_BYTES = 2**26  # of metrics.csv, which grows by about 500 bytes per epoch


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the summary of a complete run: its `score` (None if it is NaN), and the `scores` of each split by name.

    Raises:
        RecordError: If it is missing or invalid.
    """
    path = folder / SUMMARY
    summary = read_fields(path, {"score": (float, int, type(None)), "scores": dict, "monitor": str})
    splits = [scores.values() if isinstance(scores, dict) else ("?",) for scores in summary["scores"].values()]
    if not all(type(number) in (int, float, type(None)) for numbers in splits for number in numbers):
        raise RecordError(f"{path}: its scores are not numbers.")
    return summary


def write_failure(folder: Path, error: Exception) -> None:
    """Record in a run's folder why it ended without a score; a full disk is ignored."""
    with suppress(ResourceError):
        write_json(folder / FAILURE, {"kind": type(error).__name__, "message": " ".join(str(error).split())})


def read_failure(folder: Path) -> dict[str, Any]:
    """Read why a run ended without a score: the `kind` of error and its `message`.

    Raises:
        RecordError: If the record is missing or invalid.
    """
    return read_fields(folder / FAILURE, {"kind": str, "message": str})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.csv, with numbers as floats and blanks as None.

    Raises:
        RecordError: If it is missing, or not a table of numbers.
    """
    rows = csv.reader(read_text(path, MAX_TABLE_BYTES).splitlines())
    try:
        header = next(rows, [])
        found = [dict(zip(header, (float(v) if v else None for v in row), strict=True)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is not a table of numbers ({error}); restore the original file.") from error
    return found
