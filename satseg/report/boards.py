"""Leaderboards of runs with the same scoring, aggregated over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satseg.report.choices import SCORE, Effect, differing_choices, find_effects
from satseg.report.records import RunRecord
from satseg.report.statistics import draw_groups, interval, resampled_miou, standard_error


@dataclass(frozen=True)
class Entry:
    """A configuration, run with one or more seeds.

    Attributes:
        chosen: The options that differ from other entries of the board.
        drawn: Mean mIoU over seeds for each resampled test set (draws,).
        interval: 95 % confidence interval of the mean mIoU.
        lead: mIoU of the best entry minus that of this one, with its interval; None for the best.
    """

    chosen: Mapping[str, Any]
    runs: tuple[RunRecord, ...]
    drawn: np.ndarray
    interval: tuple[float, float]
    lead: tuple[float, float, float] | None = None

    @property
    def name(self) -> str:
        """The options as text."""
        return ", ".join(f"{key}={value}" for key, value in self.chosen.items()) or self.runs[0].path.name

    def values(self, score: str) -> np.ndarray:
        """Return the scores of all seeds."""
        return np.array([run.scores[score] for run in self.runs])

    @property
    def mean(self) -> float:
        """Mean mIoU over seeds."""
        return float(self.values(SCORE).mean())

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds; None for one seed."""
        return float(self.values(SCORE).std(ddof=1)) if len(self.runs) > 1 else None

    @property
    def is_noise(self) -> bool:
        """True if the lead of the best entry is not significant."""
        return self.lead is not None and self.lead[1] <= 0


@dataclass(frozen=True)
class Board:
    """Runs that can be ranked together, best first."""

    protocol: Mapping[str, str]
    class_names: tuple[str, ...]
    num_groups: int
    entries: list[Entry]
    effects: list[Effect]

    @property
    def within_noise(self) -> int:
        """Number of entries that are not significantly worse than the best."""
        return sum(entry.is_noise for entry in self.entries)


def make_boards(records: Sequence[RunRecord], draws: int = 2000, seed: int = 0) -> list[Board]:
    """Rank runs on one board per scoring protocol, the largest board first.

    Args:
        records: The runs.
        draws: Number of resampled test sets.
        seed: Seed of the resampling.
    """
    by_protocol: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for record in records:
        by_protocol.setdefault(tuple(sorted(record.protocol.items())), []).append(record)
    return [_board(runs, draws, seed) for runs in sorted(by_protocol.values(), key=len, reverse=True)]


def _board(runs: Sequence[RunRecord], draws: int, seed: int) -> Board:
    num_groups = len(set(runs[0].groups))
    drawn = draw_groups(num_groups, draws, seed)
    scores = {run.path: resampled_miou(run.matrices, run.groups, drawn) for run in runs}
    columns = differing_choices(runs)
    keys = list(columns)
    chosen = {run.path: tuple(column[i] for column in columns.values()) for i, run in enumerate(runs)}
    configurations: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in runs:
        configurations.setdefault(chosen[run.path], []).append(run)
    entries = [
        _entry(dict(zip(keys, values, strict=True)), group, scores, num_groups)
        for values, group in configurations.items()
    ]
    entries.sort(key=lambda entry: entry.mean, reverse=True)
    effects = find_effects(runs, keys, chosen, scores, num_groups)
    return Board(runs[0].protocol, runs[0].class_names, num_groups, _with_leads(entries, num_groups), effects)


def _entry(
    chosen: Mapping[str, Any], group: Sequence[RunRecord], scores: Mapping[Path, np.ndarray], num_groups: int
) -> Entry:
    runs = tuple(sorted(group, key=lambda run: run.seed))
    drawn = np.stack([scores[run.path] for run in runs]).mean(0)
    values = np.array([run.scores[SCORE] for run in runs])
    low, high = interval(float(values.mean()), standard_error(drawn, num_groups, [values]))
    return Entry(chosen, runs, drawn, (max(low, 0.0), min(high, 1.0)))


def _with_leads(entries: list[Entry], num_groups: int) -> list[Entry]:
    best = entries[0]
    ranked = [best]
    for entry in entries[1:]:
        error = standard_error(best.drawn - entry.drawn, num_groups, [best.values(SCORE), entry.values(SCORE)])
        lead = best.mean - entry.mean
        ranked.append(replace(entry, lead=(lead, *interval(lead, error, compared=len(entries)))))
    return ranked
