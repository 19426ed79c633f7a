"""Advice on resuming a run, and the user's own modules that a record or a model file needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from satseg.errors import RecordError
from satseg.records.slots import schema
from satseg.runs.layout import LAST_CHECKPOINT, SUMMARY
from satseg.runs.next_steps import trust_option
from satseg.runs.renamed import read_record


def how_to_resume(folder: Path) -> str:
    """Return advice on resuming a stopped run."""
    if (folder / SUMMARY).exists():
        return "The run is complete."
    if not (folder / LAST_CHECKPOINT).exists():
        return "There is no checkpoint yet to resume from; start again."
    own: list[str] = []
    with suppress(OSError, RecordError):  # the advice must not hide what stopped the run
        own = modules_to_trust(read_record(folder / "config.yaml"))
    command = f"python -m satseg.train resume_from={shlex.quote(str(folder))}{trust_option(own)}"
    return f"The last good checkpoint is kept; resume with: {command}"


def modules_to_trust(config: Mapping[str, Any]) -> list[str]:
    """Return the modules of classes that satseg's own configuration does not name, as `trusted_modules` takes them.

    Args:
        config: A run's configuration, or groups of it, as plain data; options that no record may set are passed over.

    Returns:
        Packages; of libraries that satseg's configuration names classes of, only the modules.
    """
    known = {target for slot in schema().slots.values() for target in slot.targets}
    libraries = {target.partition(".")[0] for target in known}
    found = {}
    for target in _targets({key: value for key, value in config.items() if key in schema().top}):
        if target not in known:
            package, module = target.partition(".")[0], target.rpartition(".")[0]
            found[module if package in libraries else package] = True
    return list(found)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _targets(each)
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target
        yield from _targets(list(node.values()))
