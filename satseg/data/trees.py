"""A folder as a short tree: its folders, and how many files of which ending lie in each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satseg.errors import printable

MOST_LINES = 12
MOST_ENTRIES = 50_000  # that are counted, of all folders together
MOST_FOLDERS = 4  # of one folder that are shown
MOST_ENDINGS = 4
DEEPEST = 4


@dataclass
class _Budget:
    entries: int = MOST_ENTRIES


def tree(root: Path) -> tuple[str, ...]:
    """Return what lies in a folder, in at most MOST_LINES lines; very many files are not counted to the end."""
    lines = [f"{printable(str(root))}/", *_below(root, 1, _Budget())]
    return tuple(lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "…"])


def _below(folder: Path, depth: int, budget: _Budget) -> Iterator[str]:
    folders, endings, whole = _contents(folder, budget)
    indent = "  " * depth
    if endings:
        named = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(MOST_ENDINGS))
        more = "" if whole and len(endings) <= MOST_ENDINGS else ", and more"
        yield f"{indent}{named}{more}"
    for name in folders[:MOST_FOLDERS] if depth < DEEPEST else []:
        yield f"{indent}{printable(name)}/"
        yield from _below(folder / name, depth + 1, budget)
    hidden = len(folders) - (MOST_FOLDERS if depth < DEEPEST else 0)
    if hidden > 0:
        yield f"{indent}… {hidden}{'' if whole else ' or more'} {'more ' if depth < DEEPEST else ''}folders"
    if not folders and not endings:
        yield f"{indent}(empty)"


def _contents(folder: Path, budget: _Budget) -> tuple[list[str], Counter[str], bool]:
    """Return a folder's visible folders, its files by ending, and whether that is all."""
    folders: list[str] = []
    endings: Counter[str] = Counter()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if budget.entries <= 0:
                    return sorted(folders), endings, False
                budget.entries -= 1
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                else:
                    endings[printable(Path(entry.name).suffix.lower()) or "without ending"] += 1
    except OSError:
        return folders, endings, False
    return sorted(folders), endings, True
