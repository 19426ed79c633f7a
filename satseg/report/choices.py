"""Configuration choices that differ between runs, and their effects on the score, all else being equal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satseg.report.records import RunRecord
from satseg.report.statistics import interval, standard_error

Column = tuple[Any, ...]
SCORE = "miou"
Chosen = Mapping[Path, tuple[Any, ...]]


def differing_choices(runs: Sequence[RunRecord]) -> dict[str, Column]:
    """Return the choices that differ between runs, each with its value in every run.

    A config group represents the options in its file: `loss=dice` stands for `loss.terms` and so on. Choices that
    always change together are joined, because their effects cannot be separated.
    """
    groups = {key: tuple(run.named.get(key) for run in runs) for key in sorted({k for run in runs for k in run.named})}
    options = sorted({key for run in runs for key in run.choices})
    columns = {key: tuple(run.choices.get(key) for run in runs) for key in options}
    hidden = {key for key in columns if any(_is_decided(key, columns[key], name, groups[name]) for name in groups)}
    copies = {repr(columns[key]) for key in hidden}  # `model.encoder_name` repeats `backbone.encoder_name`
    free = {key: column for key, column in columns.items() if key not in hidden and repr(column) not in copies}
    return _joined({key: column for key, column in (groups | free).items() if len(set(map(repr, column))) > 1})


def _is_decided(key: str, column: Column, name: str, group: Column) -> bool:
    """Return whether an option is in a group and determined by the group's choice."""
    pairs = {(repr(a), repr(b)) for a, b in zip(group, column, strict=True)}
    return key.startswith(f"{name.replace('/', '.')}.") and len(pairs) == len(set(map(repr, group)))


def _joined(columns: dict[str, Column]) -> dict[str, Column]:
    together: dict[Hashable, list[str]] = {}
    seen: set[str] = set()
    for key, column in columns.items():
        if repr(column) in seen:  # a copy through interpolation
            continue
        seen.add(repr(column))
        codes = {value: i for i, value in enumerate(dict.fromkeys(map(repr, column)))}
        together.setdefault(tuple(codes[repr(value)] for value in column), []).append(key)
    return {
        "+".join(keys): columns[keys[0]]
        if len(keys) == 1
        else tuple("+".join(map(str, values)) for values in zip(*(columns[key] for key in keys), strict=True))
        for keys in together.values()
    }


@dataclass(frozen=True)
class Effect:
    """Effect of one value of a choice.

    Attributes:
        runs: Number of runs with the value.
        mean: Their mean mIoU.
        pairs: Number of pairs of a run with this value and a run with the best value that differ in nothing else.
        difference: Mean difference in mIoU to the best value over these pairs, with its 95 % interval; None for the
            best value, and if there are no pairs.
    """

    key: str
    value: Any
    runs: int
    mean: float
    pairs: int
    difference: tuple[float, float, float] | None = None


def find_effects(
    runs: Sequence[RunRecord],
    keys: Sequence[str],
    chosen: Chosen,
    scores: Mapping[Path, np.ndarray],
    num_groups: int,
) -> list[Effect]:
    """Compare the values of every choice, best first.

    Args:
        runs: All runs of a board.
        keys: The choices that differ.
        chosen: Their values in each run.
        scores: mIoU of each run for each resampled test set (draws,).
        num_groups: Number of groups of test images.
    """
    effects = []
    for column, key in enumerate(keys):
        by_value: dict[Any, dict[Any, RunRecord]] = {}
        for run in runs:
            values = chosen[run.path]
            rest = (run.seed, *values[:column], *values[column + 1 :])
            by_value.setdefault(values[column], {})[rest] = run
        effects += _effects_of(key, by_value, scores, num_groups)
    return effects


def _effects_of(
    key: str,
    by_value: Mapping[Any, Mapping[Any, RunRecord]],
    scores: Mapping[Path, np.ndarray],
    num_groups: int,
) -> list[Effect]:
    means = {v: float(np.mean([r.scores[SCORE] for r in runs.values()])) for v, runs in by_value.items()}
    order = sorted(means, key=lambda value: -means[value])
    best = by_value[order[0]]
    effects = []
    for value in order:
        mine = by_value[value]
        pairs = [(mine[rest], best[rest]) for rest in mine if rest in best]
        difference = _difference(pairs, scores, num_groups, len(order)) if pairs and value != order[0] else None
        effects.append(Effect(key, value, len(mine), means[value], len(pairs), difference))
    return effects


def _difference(
    pairs: Sequence[tuple[RunRecord, RunRecord]], scores: Mapping[Path, np.ndarray], num_groups: int, compared: int
) -> tuple[float, float, float]:
    drawn = np.stack([scores[a.path] - scores[b.path] for a, b in pairs]).mean(0)
    gaps = np.array([a.scores[SCORE] - b.scores[SCORE] for a, b in pairs])
    mean = float(gaps.mean())
    return (mean, *interval(mean, standard_error(drawn, num_groups, [gaps]), compared))
