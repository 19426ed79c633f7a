"""Differences between a run and the one that it repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satseg.records.facts import read_data, read_environment

HARDWARE = ("python", "platform", "processor", "cores", "threads", "gpus")
MAX_FILES = 5  # listed by name
MAX_CHARACTERS = 100  # characters of a value


def differences(earlier: Path, now: Path) -> list[str]:
    """Compare the records of two runs; return a line per difference in data, code, versions and hardware."""
    data = data_differences(read_data(earlier), read_data(now))
    return [f"data: {line}" for line in data] + _environment(read_environment(earlier), read_environment(now))


def data_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare the records of two datasets; return a line per kind of difference in images or masks."""
    if old["fingerprint"] == new["fingerprint"]:
        return []
    if "digests" not in old:
        return ["the files are not the same"]
    lines = _files("changed", [n for n, d in new["digests"].items() if old["digests"].get(n, d) != d])
    lines += _files("gone", sorted(old["digests"].keys() - new["digests"].keys()))
    lines += _files("new", sorted(new["digests"].keys() - old["digests"].keys()))
    return lines or ["the splits contain other images"]


def _files(change: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MAX_FILES} more" if len(names) > MAX_FILES else ""
    return [f"{change}: {', '.join(map(_shown, names[:MAX_FILES]))}{more}"]


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
        lines.append("code: there were uncommitted changes, then or now")
    return lines


def _shown(value: Any) -> str:
    """Return a recorded value as text for the terminal: short, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:MAX_CHARACTERS])
