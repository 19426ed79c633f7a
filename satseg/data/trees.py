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


@dataclass(frozen=True)
class _Node:
    """A folder: the line that tells of it, those inside that are shown, and how many are not."""

    line: str
    inside: list[_Node]
    hidden: int

    def lines(self, depth: int, indent: str = "") -> Iterator[str]:
        """Yield the lines of the folder and of those inside it, as far as some depth."""
        yield indent + self.line
        if depth:
            for node in self.inside:
                yield from node.lines(depth - 1, f"{indent}  ")
            if self.hidden:
                yield f"{indent}  … {self.hidden} more folders"


def tree(root: Path) -> tuple[str, ...]:
    """Return what lies in a folder, as deep as MOST_LINES lines allow; very many files are not counted to the end."""
    node = _node(root, str(root), DEEPEST, _Budget())
    drawn = [tuple(node.lines(depth)) for depth in range(DEEPEST + 1)]
    return max((lines for lines in drawn if len(lines) <= MOST_LINES), key=len)


def _node(folder: Path, name: str, depth: int, budget: _Budget) -> _Node:
    folders, endings, whole = _contents(folder, budget)
    files = [f"{number} {ending}" for ending, number in endings.most_common(MOST_ENDINGS)]
    files += [] if whole and len(endings) <= MOST_ENDINGS else ["and more"]
    held = ", ".join(files) or ("" if folders else "empty")
    inside = [_node(folder / each, each, depth - 1, budget) for each in folders[:MOST_FOLDERS]] if depth else []
    return _Node(f"{printable(name)}/  {held}".rstrip(), inside, len(folders) - len(inside))


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
