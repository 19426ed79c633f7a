"""Glob patterns: brace expansion, file search, and the text that wildcards match."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from satseg.data.rasters.names import is_hidden

BRACES = r"\{[^{}/]*,[^{}/]*\}"
WILDCARD = rf"(\*|\?|\[!?\]?[^]]*\]|{BRACES})"


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns that one with braces stands for, such as two for `{train,val}/images`."""
    match = re.search(BRACES, pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [text for choice in match[0][1:-1].split(",") for text in expand_braces(f"{before}{choice}{after}")]


def has_wildcards(name: str) -> bool:
    """Return True if a name contains wildcards."""
    return any(c in name for c in "*?[")


def split_pattern(path: Path, base: Path | None = None) -> tuple[Path, str]:
    """Return the folder in which a pattern starts, and the pattern below it.

    An existing folder is never a pattern, whatever its name: `data [1]/*.tif` searches `data [1]`.

    Args:
        path: The pattern, or a plain path.
        base: Folder that a relative pattern is relative to; the working folder by default.
    """
    folder = Path(path.anchor) if path.anchor else base or Path()
    parts = path.parts[1:] if path.anchor else path.parts
    for number, part in enumerate(parts):
        if not (folder / part).is_dir():
            return folder, "/".join(parts[number:])
        folder = folder / part
    return folder, ""


def find_visible(folder: Path, pattern: str) -> list[Path]:
    """Return the visible files that match a pattern below a folder, in no particular order.

    Args:
        folder: The folder.
        pattern: Pattern relative to it.

    Raises:
        ValueError: If it is not a valid pattern.
    """
    if not pattern:
        return []
    found = (path for each in expand_braces(pattern) for path in folder.glob(each))
    return [path for path in found if not is_hidden(path.relative_to(folder)) and path.is_file()]


def expand_folders(folder: Path, pattern: str) -> str:
    """Extend a pattern that matches only folders to all files below them; return others unchanged."""
    is_folder = False
    with suppress(NotImplementedError, ValueError):  # reported on use
        for path in (path for each in expand_braces(pattern) for path in folder.glob(each)):
            if path.is_file():
                return pattern
            is_folder = True
    return f"{pattern.rstrip('/')}/**/*" if is_folder else pattern


def wildcard_text(pattern: str, path: str) -> str:
    """Return the text that the wildcards of a pattern match in a path.

    Texts within one part of the path are joined by `_`, those of several parts by `/`. The file's suffix is left out.

    Args:
        pattern: Such as `*/images/*_B02.tif`.
        path: Such as `train/images/a_B02.tif`, which gives `train/a`.
    """
    pattern, path = (unicodedata.normalize("NFC", text) for text in (pattern, path))
    ending, own = PurePosixPath(pattern).suffix, PurePosixPath(path).suffix
    texts = _texts(pattern, path)
    if has_wildcards(ending) and fnmatchcase(own, ending):
        texts = _texts(pattern.removesuffix(ending), path.removesuffix(own)) or texts
    if texts is None:
        return path
    if texts and pattern[-1] in "*?]":
        texts[-1] = texts[-1].removesuffix(own)
    rest = iter(texts)
    joined = ["_".join(filter(None, (next(rest, "") for _ in _wildcards(p)))) for p in pattern.split("/")]
    return "/".join(filter(None, joined))


def _texts(pattern: str, path: str) -> list[str] | None:
    parts = pattern.split("/")
    match = re.fullmatch("".join(_expression(p, last=i == len(parts) - 1) for i, p in enumerate(parts)), path)
    return match and [text or "" for text in match.groups()]


def _wildcards(part: str) -> list[str]:
    return ["**"] if part == "**" else re.findall(WILDCARD, part)


def _expression(part: str, *, last: bool) -> str:
    """Return the regular expression for one part of a pattern, with a group per wildcard."""
    if part == "**":
        return "(.*)" if last else "(?:(.*)/)?"
    pieces = re.split(WILDCARD, part)
    found = [_class(p) if number % 2 else re.escape(p) for number, p in enumerate(pieces)]
    return "".join(found) + ("" if last else "/")


def _class(wildcard: str) -> str:
    if wildcard in "*?":
        return {"*": "([^/]*)", "?": "([^/])"}[wildcard]
    if wildcard[0] == "{":
        return f"({'|'.join(map(re.escape, wildcard[1:-1].split(',')))})"
    inner = wildcard[1:-1].replace("\\", "\\\\")
    return f"([^{inner[1:]}])" if inner.startswith("!") else f"([{inner}])"
