"""Reading what a run recorded of its environment, config choices, data and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from satseg.errors import RecordError
from satseg.runs import CHOICES, DATA
from satseg.runs.documents import MAX_LISTING_BYTES, read_fields, read_json

MAX_THREADS = 1024


def read_environment(folder: Path) -> dict[str, Any]:
    """Read the environment of a run: `threads`, versions of `packages`, hardware and state of the code.

    Raises:
        RecordError: If the record is missing or invalid.
    """
    path = folder / "environment.json"
    found = read_fields(path, {"threads": int, "packages": dict})
    if not 1 <= found["threads"] <= MAX_THREADS:
        raise RecordError(f"{path}: threads={str(found['threads'])[:40]}; expected 1 to {MAX_THREADS}.")
    git = found.get("git")
    if git is not None and not isinstance(git, dict):
        raise RecordError(f"{path}: its git is not the state of a checkout.")
    return found


def read_choices(folder: Path) -> dict[str, str] | None:
    """Return the file of each config group that a run was composed from; None if not recorded.

    Raises:
        RecordError: If the record is invalid.
    """
    path = folder / CHOICES
    if not path.is_file():
        return None
    choices: dict[str, str] = read_json(path)
    if not all(isinstance(name, str) for name in choices.values()):
        raise RecordError(f"{path} does not name a file for each config group.")
    return choices


def read_data(folder: Path) -> dict[str, Any]:
    """Read the data record of a run: its `fingerprint`, and the `digests` of its files by name, if recorded.

    Raises:
        RecordError: If the record is missing or invalid.
    """
    path = folder / DATA
    found = read_fields(path, {"fingerprint": str}, MAX_LISTING_BYTES)
    digests = found.get("digests", {})
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        raise RecordError(f"{path}: its digests are not strings by file.")
    return found


def read_splits(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read the split of each image of a run, by the digest of image and mask, and by name.

    Raises:
        RecordError: If the record is missing or invalid.
    """
    found, path = read_data(folder), folder / DATA
    splits = found.get("splits", {})
    if not isinstance(splits, dict) or not all(map(_are_names, splits.values())):
        raise RecordError(f"{path}: its splits are not lists of names.")
    by_name = {name: str(split) for split, names in splits.items() for name in names}
    digests = found.get("digests", {})
    return {digests[name]: split for name, split in by_name.items() if name in digests}, by_name


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
