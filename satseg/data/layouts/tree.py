"""Short text trees of folders, with the number of files per suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satseg.errors import printable

MAX_LINES = 12
MAX_ENTRIES = 20_000  # counted per folder
MAX_FOLDERS = 4  # shown per folder
MAX_ENDINGS = 4
MAX_DEPTH = 4


@dataclass(frozen=True)
class _Node:
    """A folder: its line, its shown subfolders, and the number of hidden ones."""

    line: str
    inside: list[_Node]
    hidden: int

    def lines(self, depth: int, indent: str = "") -> Iterator[str]:
        """Yield the lines of the folder and its subfolders down to a depth."""
        yield indent + self.line
        if depth:
            for node in self.inside:
                yield from node.lines(depth - 1, f"{indent}  ")
            if self.hidden:
                yield f"{indent}  … {self.hidden} more folders"


def folder_tree(root: Path) -> tuple[str, ...]:
    """Return the tree of a folder, as deep as MAX_LINES lines allow; at most MAX_ENTRIES files are counted."""
    node = _node(root, str(root), MAX_DEPTH)
    drawn = [tuple(node.lines(depth)) for depth in range(MAX_DEPTH + 1)]
    return max((lines for lines in drawn if len(lines) <= MAX_LINES), key=len)


def _node(folder: Path, name: str, depth: int) -> _Node:
    folders, endings, whole = _contents(folder)
    files = [f"{number} {ending}" for ending, number in endings.most_common(MAX_ENDINGS)]
    files += [] if whole and len(endings) <= MAX_ENDINGS else ["and more"]
    held = ", ".join(files) or ("" if folders else "empty")
    inside = [_node(folder / each, each, depth - 1) for each in folders[:MAX_FOLDERS]] if depth else []
    return _Node(f"{printable(name)}/  {held}".rstrip(), inside, len(folders) - len(inside))


def _contents(folder: Path) -> tuple[list[str], Counter[str], bool]:
    """Return a folder's visible subfolders, its file counts by suffix, and whether the listing is complete."""
    folders: list[str] = []
    endings: Counter[str] = Counter()
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_ENTRIES:
                    return sorted(folders), endings, False
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                else:
                    endings[printable(Path(entry.name).suffix.lower()) or "without ending"] += 1
    except OSError:
        return folders, endings, False
    return sorted(folders), endings, True
