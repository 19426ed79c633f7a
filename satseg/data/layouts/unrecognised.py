"""Help with a folder whose layout is not recognised: its tree, and options to copy."""

from __future__ import annotations

import itertools
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satseg.data.pairing.folder_names import KINDS, SIDES
from satseg.data.rasters.header import read_info
from satseg.data.rasters.names import is_image
from satseg.errors import SatsegError, printable

MAX_DEPTH = 4  # levels of folders
# Of the tree.
MAX_LINES = 12
MAX_ENTRIES = 20_000  # counted per folder
MAX_SHOWN_FOLDERS = 4  # per folder
MAX_ENDINGS = 4
# Of the search for options.
MAX_FOLDERS = 200
MAX_NAMES = 5000  # per folder
PHOTOGRAPHS = (".jpg", ".jpeg")


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
    inside = [_node(folder / each, each, depth - 1) for each in folders[:MAX_SHOWN_FOLDERS]] if depth else []
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


def suggest_options(root: Path) -> str | None:
    """Return options for the two kinds of folders that share most file names; None if there is no clear pair."""
    files: dict[str, dict[str, Path]] = {}  # by folder, with * for a split, and by name
    for folder, names in _folders(root):
        parts = folder.relative_to(root).parts
        pattern = "/".join("*" if part.lower() in SIDES else part for part in parts)
        side = "/".join(part for part in parts if part.lower() in SIDES)
        files.setdefault(pattern, {}).update({f"{side}/{Path(name).stem}": folder / name for name in names})
    pairs = {
        (one, other): len(files[one].keys() & files[other].keys())
        for one, other in itertools.combinations(sorted(files), 2)
    }
    best = max(pairs.values(), default=0)
    if not best or list(pairs.values()).count(best) > 1:
        return None
    one, other = next(pair for pair, number in pairs.items() if number == best)
    if _is_mask(one, files[one]) > _is_mask(other, files[other]):
        one, other = other, one
    patterns = [_pattern(folder, beside) for folder, beside in ((one, other), (other, one))]
    named = [f"dataset.{kind}={shlex.quote(p)}" for kind, p in zip(("images", "masks"), patterns, strict=True)]
    return f"{' '.join(named)} ({best} names are the same there)"


def _pattern(folder: str, beside: str) -> str:
    """Return the pattern of a folder's files; only those directly in it if the other folder lies inside."""
    if not folder:
        return "*"
    return f"{folder}/*" if beside.startswith(f"{folder}/") else folder


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders that hold images with the names of the images; at most MAX_FOLDERS and MAX_NAMES."""
    number = 0
    for path, folders, names in os.walk(root):
        folder = Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(folder.relative_to(root).parts) >= MAX_DEPTH:
            folders.clear()
        images = [n for n in sorted(names)[:MAX_NAMES] if not n.startswith(".") and is_image(folder / n)]
        if images:
            yield folder, images
            number += 1
        if number == MAX_FOLDERS:
            return


def _is_mask(pattern: str, files: dict[str, Path]) -> tuple[bool, bool, int]:
    """Return evidence for masks, for comparison: the folder's name, the file type, and few bands."""
    named = any(KINDS.get(part.lower()) == "mask" for part in pattern.split("/"))
    first = next(iter(files.values()))
    is_photograph = first.suffix.lower() in PHOTOGRAPHS
    try:
        return named, not is_photograph, -read_info(first).count
    except SatsegError:
        return named, not is_photograph, 0
