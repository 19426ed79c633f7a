"""What differs between a run and the one that it repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satseg.documents import MOST_LISTING, fields, read_json
from satseg.errors import RecordError
from satseg.runconfig import config_choices
from satseg.runs import CHOICES, DATA

HARDWARE = ("python", "platform", "processor", "cores", "threads", "gpus")
MOST_FILES = 5  # that are named
MOST_THREADS = 1024
MOST_SHOWN = 100  # characters of a value


def read_environment(folder: Path) -> dict[str, Any]:
    """Read what a run was made with: `threads`, versions of `packages`, hardware, the state of the code.

    Raises:
        RecordError: If it is not there, or no such record.
    """
    path = folder / "environment.json"
    found = fields(path, {"threads": int, "packages": dict})
    if not 1 <= found["threads"] <= MOST_THREADS:
        raise RecordError(f"{path}: threads={str(found['threads'])[:40]}; expected 1 to {MOST_THREADS}.")
    git = found.get("git")
    if git is not None and not isinstance(git, dict):
        raise RecordError(f"{path}: its git is no state of a checkout.")
    return found


def read_choices(folder: Path) -> dict[str, str]:
    """Return which file of each config group a run was composed from, or this one where that is not recorded.

    Raises:
        RecordError: If the record is broken.
    """
    path = folder / CHOICES
    choices: dict[str, str] = read_json(path) if path.is_file() else config_choices()
    if not all(isinstance(name, str) for name in choices.values()):
        raise RecordError(f"{path} does not name a file for each config group.")
    return choices


def read_data(folder: Path) -> dict[str, Any]:
    """Read what a run was trained on: its `fingerprint`, and the `digests` of its files by name, if recorded.

    Raises:
        RecordError: If it is not there, or no such record.
    """
    path = folder / DATA
    found = fields(path, {"fingerprint": str}, MOST_LISTING)
    digests = found.get("digests", {})
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        raise RecordError(f"{path}: its digests are no text for each file.")
    return found


def read_splits(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read which split of a run each image was in: by the digest of image and mask, and by name.

    Raises:
        RecordError: If the record is not there, or broken.
    """
    found, path = read_data(folder), folder / DATA
    splits = found.get("splits", {})
    if not isinstance(splits, dict) or not all(map(_are_names, splits.values())):
        raise RecordError(f"{path}: its splits are no lists of names.")
    by_name = {name: str(split) for split, names in splits.items() for name in names}
    digests = found.get("digests", {})
    return {digests[name]: split for name, split in by_name.items() if name in digests}, by_name


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def differences(earlier: Path, now: Path) -> list[str]:
    """Compare the records of two runs: data, code, versions, hardware; a line for each thing that differs."""
    data = data_differences(read_data(earlier), read_data(now))
    return [f"data: {line}" for line in data] + _environment(read_environment(earlier), read_environment(now))


def data_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare the records of two datasets; a line for each way in which images or masks differ."""
    if old["fingerprint"] == new["fingerprint"]:
        return []
    if "digests" not in old:
        return ["the files are not the same"]
    lines = _files("changed", [n for n, d in new["digests"].items() if old["digests"].get(n, d) != d])
    lines += _files("gone", sorted(old["digests"].keys() - new["digests"].keys()))
    lines += _files("new", sorted(new["digests"].keys() - old["digests"].keys()))
    return lines or ["other images are in the splits"]


def _files(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return [f"{what}: {', '.join(map(_shown, names[:MOST_FILES]))}{more}"]


def _environment(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"{key}: {_shown(old.get(key))} then, {new[key]} now" for key in HARDWARE if old.get(key) != new[key]]
    versions = sorted(old["packages"].keys() | new["packages"].keys())
    lines += [
        f"{_shown(name)}: {_shown(old['packages'].get(name))} then, {new['packages'].get(name)} now"
        for name in versions
        if old["packages"].get(name) != new["packages"].get(name)
    ]
    return lines + _code(old.get("git") or {}, new.get("git") or {})


def _code(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    if old.get("commit") != new.get("commit"):
        lines.append(f"code: commit {_shown(old.get('commit'))} then, {new.get('commit')} now")
    if old.get("changed_files") or new.get("changed_files"):
        lines.append("code: files were changed and not committed, then or now")
    return lines


def _shown(value: Any) -> str:
    """Return a value of a record as text for the terminal: short, on one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:MOST_SHOWN])
