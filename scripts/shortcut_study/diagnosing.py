"""Diagnosis of a model with satseg's command, and reading of its shortcut verdicts."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from copies import run_command, run_in_fork
from plan import Model

FOUND = "found.json"  # the last file that is written
VERDICTS = ("shortcut", "surroundings", "unclear")
KEPT = ("truth", "predicted", "words", "kind", "gained", "against", "part", "box", "effect", "share_lost", "p")


def diagnose(model: Model, folder: Path, label: str) -> bool:
    """Write a diagnosis of the test split into `diagnoses/<label>`, and FOUND; return whether that succeeded."""
    into = found_at(folder, label).parent
    if (into / FOUND).exists():
        return True
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    return run_in_fork(into / "log.txt", _diagnose, folder.resolve(), into.resolve())


def found_at(folder: Path, label: str) -> Path:
    """Return the path of a diagnosis's FOUND."""
    return folder / "diagnoses" / label / FOUND


def _diagnose(folder: Path, into: Path) -> None:
    start, worked = time.perf_counter(), time.process_time()
    run_command("explain", f"checkpoint={folder / 'run'}", "split=test", "report=true", "device=cpu", f"output={into}")
    times = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - worked}
    found = times | read(json.loads((into / "diagnosis.json").read_text()))
    unfinished = into / f".{FOUND}"
    unfinished.write_text(json.dumps(found, indent=2) + "\n")
    unfinished.rename(into / FOUND)


def read(diagnosis: dict[str, Any]) -> dict[str, Any]:
    """Return the classes and errors of each verdict, with `classes`: all that the statement is about.

    If a is identified by a cue that b lacks, a diagnosis may name either, and call the other its mirror.
    """
    dependences = [*diagnosis["leaning"], *(pair["leaning"] for pair in diagnosis["pairs"] if pair["leaning"])]

    def found(row: dict[str, Any]) -> dict[str, Any]:
        mirrored = {other["truth"] for other in dependences if other.get("mirror") == row["truth"]}
        classes = {row["truth"], row["predicted"], row.get("against")} | mirrored
        return {key: row[key] for key in KEPT if key in row} | {"classes": sorted(classes - {None})}

    return {verdict: [found(row) for row in dependences if row.get(verdict)] for verdict in VERDICTS}
