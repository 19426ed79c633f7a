"""Fault injection: count the faults that satseg survives.

    python scripts/benchmarks/faults.py                                    # all rows, 20 trials each
    python scripts/benchmarks/faults.py rows='[kill_train,disk_*]' trials=2
    python scripts/benchmarks/faults.py output=experiments/faults/README.md work=/tmp/faults

Each trial runs a command on tiny data, injects a fault at a random (seeded) moment, and runs the command again. A
fault is survived if every file with a final name is complete, also right after the fault; if the process, where it can
report, ends with one line and exit code 1, 2 or 130, without a traceback; and if the same command, or resume_from,
continues and produces the files of a reference run, without leftover temporary files. Finished trials are kept in the
folder `work` and not repeated; the table of all rows is printed at the end.
"""

from __future__ import annotations

import fnmatch
import json
import multiprocessing
import os
import platform
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fault_commands import Commands
from fault_kinds import DiskFull, Fault, MemoryShort, OnDisk, ReadOnly, StopRequested, WorkerKilled
from fault_server import kill_server, served_job
from fault_trials import Outcome, hit, two_writers

LIBRARIES = (  # imported once; each trial is a fork of this process
    "satseg.evaluate.scoring",
    "satseg.explain.maps",
    "satseg.runtimes",
    "satseg.train.run",
    "satseg.train.finish",
    "satseg.inference.engines",
    "satseg.train.processes",
    "satseg.predict.one_scene",
    "satseg.validate.checking",
    "satseg.validate.write",
    "satseg.serve.api.application",
    "uvicorn",
)
PHASES = ("measuring data", "before the first batch", "mid epoch", "validation", "final scoring")
LEGEND = """Survived: every file with a final name is complete, right after the fault and at the end; a process
that can report ends with one line and exit code 1, 2 or 130 (or finishes with 0); the same command continues
(in train with `resume_from=`, once there is a checkpoint); the files then equal those of a run without
faults, and no temporary file is left. GeoTIFFs, images and tables are compared byte by byte; of
`model.safetensors` the tensors (its header contains a date), of TorchScript files everything except source
locations, of a GeoPackage the polygons and attributes (its tables contain a date), of JSON and `metrics.csv`
everything except times and paths; pages, logs, checkpoints and the curves (which show the speed) only have to
be readable. "aborted": a library ended the process when memory could not be allocated, before Python could
report it; these trials are checked in all other respects."""


@dataclass(frozen=True)
class Row:
    """A kind of trial.

    Attributes:
        name: Name for selecting it.
        fault: Description of the fault.
        command: The command under test.
        trial: Runs one trial in its own folder.
    """

    name: str
    fault: str
    command: str
    trial: Callable[[Commands, Path, random.Random], Outcome]


def _rows() -> list[Row]:
    made = [
        Row(f"kill_{command}", "kill -9", command, partial(hit, command, Fault(), None))
        for command in ("train", "predict")
    ]
    made.append(Row("kill_serve", "kill -9 of the server in a job, restart", "serve", kill_server))
    for phase in PHASES:
        trial = partial(hit, "train", StopRequested(), phase)
        made.append(Row(f"sigterm_train_{phase.replace(' ', '_')}", f"SIGTERM, {phase}", "train", trial))
    for command in ("predict", "evaluate", "validate", "export", "explain"):
        made.append(Row(f"sigterm_{command}", "SIGTERM", command, partial(hit, command, StopRequested(), None)))
    for name, words, fault, hits in (
        ("disk", "full disk", DiskFull(), ("train", "predict", "export")),
        ("worker", "killed loader worker", WorkerKilled(), ("train", "evaluate")),
        ("readonly", "output becomes read-only", ReadOnly(), ("train", "predict", "export")),
        ("memory", "memory limit reached", MemoryShort(), ("train", "predict")),
    ):
        made += [Row(f"{name}_{command}", words, command, partial(hit, command, fault, None)) for command in hits]
    for command in ("train", "predict", "export"):
        made.append(Row(f"writers_{command}", "two writers", command, partial(two_writers, command)))
    return made


ROWS = {row.name: row for row in _rows()}


def main() -> None:
    """Run the missing trials, and print the table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    patterns = given.get("rows", "*").strip("[]").split(",")
    rows = [name for name in ROWS if any(fnmatch.fnmatch(name, pattern.strip()) for pattern in patterns)]
    trials, lanes, seed = (int(given.get(k, v)) for k, v in (("trials", 20), ("lanes", 2), ("seed", 0)))
    work = Path(given.get("work") or tempfile.mkdtemp(prefix="faults-")).absolute()
    results = work / "results.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    done = {(r["row"], r["trial"]) for r in _read(results)}
    jobs = [(row, number) for row in rows for number in range(trials) if (row, number) not in done]
    if jobs:
        _run(Commands(work), jobs, lanes, seed, results)
    found = [r for r in _read(results) if r["row"] in rows and r["trial"] < trials]
    text = table(found)
    print(text)
    if "output" in given:
        path = Path(given["output"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(text, trials, seed), encoding="utf-8")
    if "work" not in given:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(any(r["problems"] for r in found))


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _run(commands: Commands, jobs: list[tuple[str, int]], lanes: int, seed: int, results: Path) -> None:
    """Distribute trials over processes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import preloaded_processes

    sys.modules[preloaded_processes.NOT_SHARED] = None  # type: ignore[assignment]
    for name in (*preloaded_processes.LIBRARIES, *LIBRARIES):
        __import__(name)
    del sys.modules[preloaded_processes.NOT_SHARED]
    for command in sorted({ROWS[row].command for row, _ in jobs} - {"serve"}, key="train".__ne__):
        commands.reference(command)
    if any(ROWS[row].command == "serve" for row, _ in jobs):
        served_job(commands)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    for job in jobs:
        queue.put(job)
    for _ in range(lanes):
        queue.put(None)
    processes = [context.Process(target=_lane, args=(commands, queue, seed, results, n)) for n in range(lanes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _lane(commands: Commands, queue: Any, seed: int, results: Path, lane: int) -> None:
    while (job := queue.get()) is not None:
        row, number = job
        begin, folder = time.monotonic(), commands.work / "trials" / f"{row}_{number}"
        for left in folder.parent.glob(f"{row}_{number}_*"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            outcome = ROWS[row].trial(commands, folder, random.Random(f"{seed} {row} {number}"))
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome(problems=[f"the trial itself failed: {error!r}"])
        record = {"row": row, "trial": number, "seconds": round(time.monotonic() - begin, 1)} | asdict(outcome)
        with results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{row} {number}: {outcome.problems or 'survived'} ({outcome.phase}; {outcome.message})", file=sys.stderr)
        if not outcome.problems:
            for left in (folder, folder.with_name(f"{folder.name}.logs"), *folder.parent.glob(f"{row}_{number}_*")):
                shutil.rmtree(left, ignore_errors=True)


def table(found: list[dict[str, Any]]) -> str:
    """Return a table with a line per row."""
    text = ["| fault | command | survived | hit in | what failed |", "| --- | --- | --: | --- | --- |"]
    for name, row in ROWS.items():
        own = [r for r in found if r["row"] == name]
        if own:
            phases = ", ".join(f"{phase} {count}" for phase, count in Counter(r["phase"] for r in own).most_common())
            failed = Counter(r["problems"][0] for r in own if r["problems"]).most_common()
            problems = "; ".join(f"{count}: {problem[:160]}".replace("|", "/") for problem, count in failed)
            count = sum(not r["problems"] for r in own)
            text.append(f"| {row.fault} | {row.command} | {count} of {len(own)} | {phases} | {problems} |")
    return "\n".join(text)


def page(text: str, trials: int, seed: int) -> str:
    """Return the record of the study as a page."""
    disk = "tmpfs of its own" if OnDisk.mounts else "a limit on the size of files, permission bits"
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    return f"""# Faults survived

Faults of processes and disks after which satseg neither loses work nor leaves incomplete files.

    python scripts/benchmarks/faults.py trials={trials} seed={seed} output=experiments/faults/README.md

Machine: {machine}; disk faults: {disk}.

{LEGEND}

{text}
"""


if __name__ == "__main__":
    main()
