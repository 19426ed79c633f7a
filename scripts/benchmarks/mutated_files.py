"""Fuzzing: pass randomly mutated files to all input channels of satseg, and count the outcomes.

    python scripts/benchmarks/mutated_files.py num=1000 seed=0 work=/tmp/mutated
    python scripts/benchmarks/mutated_files.py num=40 kinds=jpeg,cog

Small valid files of every kind are mutated (bits flipped, truncated, overwritten, fields swapped, parts removed,
repeated or spliced with another file) and passed to predict, the API of a running server, validate, or load_model. For
each accepted file, the pixels that satseg read are compared with rasterio's. One process per input channel and model
takes the files one after another; if a file ends it, or takes longer than `limit_s`, this is counted, and a new process
continues. Each process starts with the unchanged files: unless all are accepted and compare equal, nothing is counted.
A mutation is determined by (seed, index) on every machine. Mutated files are deleted after use; do not commit any.
Results are kept in `work`; the same command continues an interrupted run.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mutated_channels import WAYS
from mutated_groups import CHANNELS, Group, group_of, make_models, show_pixels
from mutated_originals import KINDS, Kind, mutate, place_of, write_originals
from mutated_verdicts import FILL, use_in

VERDICTS = ("accepted", "refused", "unclear", "traceback", "crash", "hang", "wrong")
GOOD = ("accepted", "refused")
MOST_ADDED = 500_000_000  # limit on the memory that a file adds to the process, in bytes
STARTING_S = 300  # time limit for importing, loading a model and using the unchanged files
DEFAULTS = {"num": "1000", "seed": "0", "work": "", "limit_s": "120", "kinds": "", "output": ""}


def kinds_of(options: dict[str, str]) -> list[Kind]:
    """Return the selected kinds."""
    names = options["kinds"].split(",") if options["kinds"] else [kind.name for kind in KINDS]
    if unknown := set(names) - {kind.name for kind in KINDS}:
        raise SystemExit(f"kinds={','.join(unknown)}: choose {', '.join(kind.name for kind in KINDS)}.")
    return [kind for kind in KINDS if kind.name in names]


def way_of(index: int, options: dict[str, str]) -> tuple[Kind, str]:
    """Return the kind and the input channel of a case."""
    kinds = kinds_of(options)
    kind, turn = kinds[index % len(kinds)], index // len(kinds)
    ways_in = CHANNELS[kind.part]
    return kind, ways_in[turn % len(ways_in)]


def changed(index: int, kind: Kind, seed: str, originals: dict[Kind, bytes]) -> tuple[str, bytes]:
    """Return the mutation and the bytes of a case."""
    random = np.random.default_rng([int(seed), index])
    other = originals[KINDS[int(random.integers(len(KINDS)))]]
    return mutate(originals[kind], other, random)


def work_off(options: dict[str, str], group: Group) -> None:
    """Use the unchanged files, then the cases whose indices come on standard input; answer each with a line."""
    work = Path(options["work"])
    originals = {kind: place_of(work / "originals", kind).read_bytes() for kind in KINDS}
    answers, sys.stdout = sys.stdout, sys.stderr
    way = WAYS[group.channel](work, group, float(options["limit_s"]))

    def use(kind: Kind, data: bytes) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            path = place_of(Path(folder), kind)
            path.write_bytes(data)
            return use_in(way, path, kind)

    try:
        own = [k for k in kinds_of(options) if group in [group_of(channel, k) for channel in CHANNELS[k.part]]]
        control = {kind.name: use(kind, originals[kind]) for kind in own}
        print(json.dumps(control), file=answers, flush=True)
        for line in sys.stdin:
            index = int(line)
            kind, _ = way_of(index, options)
            change, data = changed(index, kind, options["seed"], originals)
            print(json.dumps({"index": index, "change": change} | use(kind, data)), file=answers, flush=True)
    finally:
        way.close()


class Worker:
    """A process that uses the cases of a group, one at a time.

    Args:
        group: The group.
        options: Of the command.
        work: Its folder.

    Raises:
        SystemExit: If an unchanged file is not handled as it should be.
    """

    def __init__(self, group: Group, options: dict[str, str], work: Path) -> None:
        given = [f"{key}={value}" for key, value in options.items()]
        given.append(f"group={group.channel},{group.bands},{group.dtype}")
        with (work / "worker.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "work", *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that its server can be ended with it
                env=os.environ | {"SATSEG_CACHE": str(work / "cache"), "MALLOC_PERTURB_": str(FILL)},
            )
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.control = self._ask("", STARTING_S)
        if bad := {name: found for name, found in self.control.items() if found["verdict"] != "accepted"}:
            self.end()
            raise SystemExit(f"{group}: unchanged files are not accepted, so nothing can be counted: {bad}")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def _ask(self, text: str, limit_s: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()
        if not (line := self.answers.get(timeout=limit_s)):
            raise BrokenPipeError(f"exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def use(self, index: int, limit_s: float) -> dict[str, Any]:
        """Return the outcome of a case."""
        try:
            return self._ask(f"{index}\n", limit_s)
        except queue.Empty:
            return {"index": index, "verdict": "hang", "reason": "", "peak": 0, "added": 0}
        except BrokenPipeError as error:
            return {"index": index, "verdict": "crash", "reason": str(error), "peak": 0, "added": 0}

    def end(self) -> None:
        """Stop the process and its server."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def run(options: dict[str, str], work: Path) -> tuple[list[dict[str, Any]], dict[Group, int]]:
    """Run all remaining cases.

    Returns:
        The outcome of each case, and the number of unchanged files that each group's process used first.
    """
    record = work / f"results_{options['seed']}_{options['kinds'] or 'all'}.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    missing = set(range(int(options["num"]))) - {found["index"] for found in done}
    groups: dict[Group, list[int]] = {}
    for index in sorted(missing):
        kind, channel = way_of(index, options)
        groups.setdefault(group_of(channel, kind), []).append(index)
    controls = {}
    with record.open("a") as file:
        for group, indices in groups.items():
            worker: Worker | None = None
            for index in indices:
                worker = worker or Worker(group, options, work)
                controls[group] = len(worker.control)
                found = worker.use(index, float(options["limit_s"]))
                if found["verdict"] in ("crash", "hang"):
                    worker.end()
                    worker = None
                done.append(found)
                print(json.dumps(found), file=file, flush=True)
            if worker:
                worker.end()
    wanted = [found for found in done if found["index"] < int(options["num"])]
    return sorted(wanted, key=lambda found: int(found["index"])), controls


def table(options: dict[str, str], found: list[dict[str, Any]]) -> str:
    """Return the counts by input channel and kind of file as Markdown."""
    rows: dict[str, Counter[str]] = {}
    most: dict[str, tuple[int, int]] = {}
    for one in found:
        kind, channel = way_of(one["index"], options)
        for row in (f"{channel}: {kind.part}", "all"):
            rows.setdefault(row, Counter())[one["verdict"]] += 1
            peak, added = most.get(row, (0, 0))
            most[row] = max(peak, one["peak"]), max(added, one["added"])
    lines = [f"| way in: file | files | {' | '.join(VERDICTS)} | peak memory | added by a file |"]
    lines.append(f"|---|{'---|' * (len(VERDICTS) + 3)}")
    for row in [*sorted(rows.keys() - {"all"}), "all"]:
        counts = [sum(rows[row].values()), *(rows[row][verdict] for verdict in VERDICTS)]
        lines.append(
            f"| {row} | {' | '.join(map(str, counts))} | {' | '.join(f'{n / 1e6:.0f} MB' for n in most[row])} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, and exit with status 1 if a file was not handled correctly."""
    role = sys.argv[1] if sys.argv[1:2] in (["work"], ["serve"]) else ""
    if role == "serve":
        show_pixels()
        sys.argv = ["satseg.serve", *sys.argv[2:]]
        from satseg.serve.__main__ import main as serve

        return serve()
    options = DEFAULTS | dict(argument.split("=", 1) for argument in sys.argv[1 + bool(role) :])
    if role == "work":
        channel, bands, dtype = options.pop("group").split(",")
        return work_off(options, Group(channel, int(bands), dtype))
    if unknown := options.keys() - DEFAULTS.keys():
        raise SystemExit(f"{', '.join(unknown)}: choose {', '.join(DEFAULTS)}.")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options["work"] or temporary).absolute()
        write_originals(work / "originals")
        make_models(work, kinds_of(options))
        found, controls = run(options | {"work": str(work)}, work)
    bad = [one for one in found if one["verdict"] not in GOOD or one["added"] > MOST_ADDED]
    for one in bad:
        kind, channel = way_of(one["index"], options)
        print(json.dumps({"kind": kind.name, "channel": channel} | one), file=sys.stderr)
    print(text := table(options, found))
    print(f"Unchanged files accepted first: {sum(controls.values())}, by {len(controls)} processes.")
    if options["output"]:
        Path(options["output"]).write_text(f"{text}\n")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
