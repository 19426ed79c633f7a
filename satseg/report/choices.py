"""Configuration choices that differ between runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from satseg.report.records import RunRecord

Column = tuple[Any, ...]


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
