"""Names of folders that stand for images, masks or splits."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from satseg.data.rasters.names import is_image
from satseg.errors import ConfigError

IMAGE_WORDS = ("images", "image", "imgs", "img", "img_dir")
MASK_WORDS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ann_dir")
SIDES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
KINDS = dict.fromkeys(IMAGE_WORDS, "image") | dict.fromkeys(MASK_WORDS, "mask")
_KIND, _SIDE = ("|".join(words) for words in (KINDS, SIDES))
KIND_AND_SIDE = re.compile(
    rf"(?P<side>{_SIDE})[_. -]?(?P<kind>{_KIND})|(?P<first_kind>{_KIND})[_. -]?(?P<last_side>{_SIDE})"
)
SIDE_ORDER = ("train", "val", "test")
ARCHIVE_FOLDERS = ("__macosx",)  # left by archives beside the data
MAX_FOLDERS = 1000  # searched per folder


@dataclass(frozen=True)
class Folders:
    """Folders of one kind whose paths differ only in the name of the split.

    Attributes:
        path: Relative to the dataset's folder, with `{}` in place of the split's name, if there are splits.
        names: Folder names by split.
        files: Pattern suffix: `/*` for the files directly in the folders, "" for all files below them.
    """

    path: str
    names: Mapping[str, str]
    files: str = ""

    def pattern(self, sides: Collection[str]) -> str:
        """Return a glob pattern of the folders of some splits."""
        names = [name for side, name in self.names.items() if side in sides]
        name = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
        return self.path.replace("{}", name) + self.files

    def of(self, side: str) -> str:
        """Return the path of a split's folder."""
        return self.path.replace("{}", self.names[side])


class Name(NamedTuple):
    """Kind and split that a path's name stands for.

    Attributes:
        kind: `image` or `mask`; "" if neither is named.
        side: `train`, `val` or `test`; "" if none is named.
        word: The word that names the split.
        template: The path with `{}` in place of that word.
    """

    kind: str
    side: str
    word: str
    template: str


def parse_name(path: str) -> Name:
    """Return the kind and split that a path names, if each of its parts names exactly one of them."""
    found = [_parse_part(part) for part in path.split("/")]
    kinds, sides = [n.kind for n in found if n.kind], [n for n in found if n.side]
    if len(kinds) > 1 or len(sides) > 1 or not all(n.kind or n.side for n in found):
        return Name("", "", "", path)
    side, word = sides[0][1:3] if sides else ("", "")
    return Name("".join(kinds), side, word, "/".join(n.template for n in found))


def _parse_part(part: str) -> Name:
    name = part.lower()
    if name in KINDS:
        return Name(KINDS[name], "", "", part)
    if name in SIDES:
        return Name("", SIDES[name], part, "{}")
    match = KIND_AND_SIDE.fullmatch(name)
    if match is None:
        return Name("", "", "", part)
    group = "side" if match["side"] else "last_side"
    start, end = match.span(group)
    kind = KINDS[match["kind"] or match["first_kind"]]
    return Name(kind, SIDES[match[group]], part[start:end], f"{part[:start]}{{}}{part[end:]}")


def named_folders(root: Path) -> list[tuple[str, Folders]]:
    """Return the folders below a root whose names stand for images, masks or splits, each with its kind.

    The kind is `image` or `mask`, or "" for a folder that names only a split and holds images itself.

    Raises:
        ConfigError: If two folders of one kind belong to the same split.
    """
    names: dict[tuple[str, str], dict[str, str]] = {}
    for path in _paths(root):
        kind, side, word, template = parse_name(path)
        if not side:
            names.setdefault((kind, template), {})
        elif kind or has_images(root / path):
            own = names.setdefault((kind, template), {})
            if own.setdefault(side, word) != word:
                raise ConfigError(
                    f"{root}: the folders {own[side]} and {word} are both named after the {side} split; put their "
                    "files together, or give dataset.images, dataset.masks and dataset/split=subfolder."
                )
    return [
        (kind, Folders(path, {side: own[side] for side in SIDE_ORDER if side in own}, "" if kind else "/*"))
        for (kind, path), own in names.items()
    ]


def _paths(root: Path) -> Iterator[str]:
    """Yield folders with meaningful names, and such folders inside these, as paths below the root."""
    for name in subfolders(root):
        if any(parse_name(name)[:2]):
            yield name
            yield from (f"{name}/{inner}" for inner in subfolders(root / name) if parse_name(f"{name}/{inner}").side)


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's visible subfolders, at most MAX_FOLDERS of them."""
    with suppress(OSError), os.scandir(folder) as entries:
        visible = (e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        return sorted(itertools.islice((name for name in visible if name.lower() not in ARCHIVE_FOLDERS), MAX_FOLDERS))
    return []


def has_images(folder: Path) -> bool:
    """Return True if a folder itself holds images."""
    with suppress(OSError), os.scandir(folder) as entries:
        return any(is_image(Path(entry.path)) and entry.is_file() for entry in entries)
    return False


def split_folders(folders: Iterable[PurePath]) -> dict[str, str]:
    """Return the names by split of the folders that divide images; empty if any image lies outside them.

    Args:
        folders: Folders of the images, relative to the dataset's folder.

    Raises:
        ConfigError: If two folders are named after one split.
    """
    found: dict[str, set[str]] = {}
    for folder in set(folders):
        name = next((part for part in folder.parts if parse_name(part).side), None)
        if name is None:
            return {}
        found.setdefault(parse_name(name).side, set()).add(name)
    if "train" not in found or len(found) == 1:
        return {}
    for side, names in found.items():
        if len(names) > 1:
            raise ConfigError(
                f"The folders {' and '.join(sorted(names))} are both named after the {side} split: choose with "
                f"dataset/split=subfolder and dataset.split.{side}=, or take dataset/split=random."
            )
    return {side: found[side].pop() for side in SIDE_ORDER if side in found}
