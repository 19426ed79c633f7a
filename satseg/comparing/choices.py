"""What tells runs from one another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from satseg.comparing.records import RunRecord

Column = tuple[Any, ...]


def differing(runs: Sequence[RunRecord]) -> dict[str, Column]:
    """Return the choices that are not the same in all runs, each with its value in every run.

    A config group stands for all that follows from it: `loss=dice` for the values in its file. Of options that always
    change together the plainest is left.
    """
    groups = {key: tuple(run.named.get(key) for run in runs) for key in sorted({k for run in runs for k in run.named})}
    kept = _without_twins({key: column for key, column in groups.items() if len(set(column)) > 1})
    options = sorted({key for run in runs for key in run.choices}, key=_plainness)
    columns = {key: tuple(run.choices.get(key) for run in runs) for key in options}
    free = {
        key: column
        for key, column in columns.items()
        if len(set(map(repr, column))) > 1 and not any(_follows(column, group) for group in kept.values())
    }
    return dict(sorted(_without_twins(kept | free).items()))


def _follows(column: Column, group: Column) -> bool:
    """Whether the group's choice decides the value."""
    pairs = {(repr(a), repr(b)) for a, b in zip(group, column, strict=True)}
    return len(pairs) == len(set(map(repr, group)))


def _without_twins(columns: dict[str, Column]) -> dict[str, Column]:
    first: dict[Hashable, str] = {}
    for key, column in columns.items():
        codes = {value: i for i, value in enumerate(dict.fromkeys(map(repr, column)))}
        first.setdefault(tuple(codes[repr(value)] for value in column), key)
    return {key: columns[key] for key in first.values()}


def _plainness(key: str) -> tuple[bool, int, str]:
    return key.endswith("_target_"), key.count("."), key
