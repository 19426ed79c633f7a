"""Outcomes of the runs of a sweep, read from their folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from satseg.errors import RecordError
from satseg.runs import FAILURE, SUMMARY, read_failure, read_summary

DIVERGED = "DivergedError"


@dataclass(frozen=True)
class Outcome:
    """Outcome of one run.

    Attributes:
        state: `complete`, `diverged`, `failed`, `unfinished` or `missing`.
        score: The monitored score of a complete run.
        reason: Why there is no score.
    """

    name: str
    state: str
    score: float | None = None
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether running it again would not change the outcome."""
        return self.state in ("complete", "diverged")


def read_outcome(folder: Path) -> Outcome:
    """Read the outcome of a run; one with an invalid record counts as failed."""
    try:
        return _read_outcome(folder)
    except RecordError as error:
        return Outcome(folder.name, "failed", reason=f"RecordError: {error}")


def _read_outcome(folder: Path) -> Outcome:
    if (folder / SUMMARY).is_file():
        score = read_summary(folder)["score"]
        return Outcome(folder.name, "complete", float("nan") if score is None else float(score))
    if (folder / FAILURE).is_file():
        failure = read_failure(folder)
        state = "diverged" if failure["kind"] == DIVERGED else "failed"
        return Outcome(folder.name, state, reason=f"{failure['kind']}: {failure['message']}")
    if (folder / "config.yaml").is_file():
        return Outcome(folder.name, "unfinished", reason="interrupted, killed, or still running")
    return Outcome(folder.name, "missing", reason="never started")


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Return the runs as a Markdown table, the best score first."""
    ranked = sorted(
        outcomes, key=lambda o: -math.inf if o.score is None or math.isnan(o.score) else o.score, reverse=True
    )
    rows = [f"| {o.name} | {o.state} | {_shown(o)} |" for o in ranked]
    return "\n".join(["| run | outcome | score |", "| --- | --- | --- |", *rows])


def _shown(outcome: Outcome) -> str:
    return f"{outcome.score:.4f}" if outcome.score is not None else outcome.reason.replace("|", "/")
