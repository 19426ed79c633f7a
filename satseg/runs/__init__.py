"""Run folders: creating and finding them, and reading their records."""

from satseg.runs.finding import (
    LATEST,
    find_checkpoint,
    find_complete,
    find_paths,
    find_unfinished,
    model_path,
    run_folder,
)
from satseg.runs.folder import Run, clear_first_epoch, open_run
from satseg.runs.layout import AUTO, AUTO_OPTIONS, CHOICES, DATA, FAILURE, MODEL_FILE, SUMMARY, SWEEP
from satseg.runs.results import read_failure, read_metrics, read_summary, write_failure

__all__ = [
    "AUTO",
    "AUTO_OPTIONS",
    "CHOICES",
    "DATA",
    "FAILURE",
    "LATEST",
    "MODEL_FILE",
    "SUMMARY",
    "SWEEP",
    "Run",
    "clear_first_epoch",
    "find_checkpoint",
    "find_complete",
    "find_paths",
    "find_unfinished",
    "model_path",
    "open_run",
    "read_failure",
    "read_metrics",
    "read_summary",
    "run_folder",
    "write_failure",
]
