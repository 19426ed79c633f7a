"""Files whose bytes were changed at random, given to satseg by every way in, and counted.

    python scripts/benchmarks/mutated_files.py num=1000 seed=0 work=/tmp/mutated
    python scripts/benchmarks/mutated_files.py num=40 kinds=jpeg,cog

Valid small files of every kind are changed (bits flipped, cut off, overwritten, fields swapped, parts removed, repeated
or joined to another file's) and go through predict, the API of a running server, validate, or load_model. Of each
accepted one, the pixels that satseg read are compared with rasterio's. Files are used in a process of their own, many
after another; one that ends it, or takes longer than `limit_s`, is counted, and the others go on in a new one.
Which file comes of (seed, index) is the same everywhere. No changed file outlives its turn, and none belongs into a
repository. Results are kept in `work`; the same command goes on where it was.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import mutated_channels as channels
import numpy as np
from mutated_originals import KINDS, Kind, mutate, write_model, write_originals

VERDICTS = ("accepted", "refused", "traceback", "crash", "hang", "wrong")
LARGEST_PEAK = 1_000_000_000
DEFAULTS = {"num": "1000", "seed": "0", "work": "", "limit_s": "120", "kinds": "", "output": ""}


def write_run(folder: Path) -> None:
    """Write a run folder as training leaves it."""
    write_model(folder / "model.safetensors", Kind("run", ""))
    (folder / "config.yaml").write_text("dataset:\n  _target_: satseg.data.folder.FolderDataModule\n  root: data\n")
    (folder / "summary.json").write_text('{"best_epoch": 1, "best_score": 0.5}\n')


def prepare(work: Path) -> dict[Kind, bytes]:
    """Write the valid files and the models; return what the files hold."""
    (work / "originals").mkdir(parents=True, exist_ok=True)
    if not (work / "models").is_dir():
        channels.make_models(work)
    shutil.rmtree(work / "originals" / "run", ignore_errors=True)
    return write_originals(work / "originals", write_run)


def case(index: int, options: dict[str, str], originals: dict[Kind, bytes]) -> tuple[Kind, str, str, bytes]:
    """Return the kind, the way in, the change and the bytes of one case."""
    names = options["kinds"].split(",") if options["kinds"] else [kind.name for kind in KINDS]
    kinds = [kind for kind in KINDS if kind.name in names]
    kind, turn = kinds[index % len(kinds)], index // len(kinds)
    random = np.random.default_rng([int(options["seed"]), index])
    other = originals[KINDS[int(random.integers(len(KINDS)))]]
    way, data = mutate(originals[kind], other, random)
    ways_in = channels.CHANNELS[kind.part]
    return kind, ways_in[turn % len(ways_in)], way, data


def work_off(options: dict[str, str]) -> None:
    """Use the cases whose indices come on standard input; answer each with a line."""
    work = Path(options["work"])
    originals = prepare(work)
    channels.show_pixels()
    answers, sys.stdout = sys.stdout, sys.stderr
    api = channels.Api(work, float(options["limit_s"]))
    try:
        for line in sys.stdin:
            index = int(line)
            kind, channel, _, data = case(index, options, originals)
            with tempfile.TemporaryDirectory(dir=work) as folder:
                path = Path(folder) / f"{kind.name}{kind.suffix}"
                path.write_bytes(data)
                verdict, reason, peak = channels.use_in(channel, path, kind, work, api)
            found = {"verdict": verdict, "reason": reason, "peak": peak}
            print(json.dumps({"index": index, **found}), file=answers, flush=True)
            if verdict == "crash":
                return
    finally:
        api.process.terminate()


class Worker:
    """A process that uses cases, one at a time."""

    def __init__(self, options: dict[str, str], work: Path) -> None:
        given = [f"{key}={value}" for key, value in options.items()]
        with (work / "worker.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "work", *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.answers: queue.Queue[str] = queue.Queue()
        self.fresh = True
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def use(self, index: int, limit_s: float) -> dict[str, Any]:
        """Return what became of a case."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{index}\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=limit_s + (240 if self.fresh else 0))  # it imports and writes models first
        except queue.Empty:
            return {"index": index, "verdict": "hang", "reason": "", "peak": 0}
        except BrokenPipeError:
            line = ""
        self.fresh = False
        found: dict[str, Any] = json.loads(line) if line else {"verdict": "crash", "reason": "", "peak": 0}
        return {"index": index} | found

    def end(self) -> None:
        """End the process, and the server that it started."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self.process.terminate()
            self.process.wait()


def run(options: dict[str, str], work: Path) -> list[dict[str, Any]]:
    """Use all cases that were not used before; return what became of each."""
    record = work / f"results_{options['seed']}_{options['kinds'] or 'all'}.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    missing = sorted(set(range(int(options["num"]))) - {found["index"] for found in done})
    worker: Worker | None = None
    with record.open("a") as file:
        for index in missing:
            worker = worker or Worker(options, work)
            found = worker.use(index, float(options["limit_s"]))
            if found["verdict"] in ("crash", "hang"):
                worker.end()
                worker = None
            done.append(found)
            print(json.dumps(found), file=file, flush=True)
    if worker:
        worker.end()
    return sorted((found for found in done if found["index"] < int(options["num"])), key=lambda found: found["index"])


def table(options: dict[str, str], found: list[dict[str, Any]], originals: dict[Kind, bytes]) -> str:
    """Return the counts by way in and kind of file as Markdown."""
    rows: dict[str, Counter[str]] = {}
    peaks: dict[str, int] = {}
    for one in found:
        kind, channel, _, _ = case(one["index"], options, originals)
        for row in (f"{channel}: {kind.part}", "all"):
            rows.setdefault(row, Counter())[one["verdict"]] += 1
            peaks[row] = max(peaks.get(row, 0), one["peak"])
    lines = [f"| way in: file | files | {' | '.join(VERDICTS)} | peak memory |", f"|---|{'---|' * (len(VERDICTS) + 2)}"]
    for row in [*sorted(rows.keys() - {"all"}), "all"]:
        counts = [sum(rows[row].values()), *(rows[row][verdict] for verdict in VERDICTS)]
        lines.append(f"| {row} | {' | '.join(map(str, counts))} | {peaks[row] / 1e6:.0f} MB |")
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, and end with 1 where a file was not handled as it should be."""
    role = sys.argv[1] if sys.argv[1:2] in (["work"], ["serve"]) else ""
    if role == "serve":
        channels.show_pixels()
        sys.argv = ["satseg.serve", *sys.argv[2:]]
        from satseg.serve import main as serve

        return serve()
    options = DEFAULTS | dict(argument.split("=", 1) for argument in sys.argv[1 + bool(role) :])
    if unknown := options.keys() - DEFAULTS.keys():
        raise SystemExit(f"{', '.join(unknown)}: choose {', '.join(DEFAULTS)}.")
    if role == "work":
        return work_off(options)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options["work"] or temporary).absolute()
        work.mkdir(parents=True, exist_ok=True)
        originals = prepare(work)
        found = run(options | {"work": str(work)}, work)
        print(text := table(options, found, originals))
    for one in found:
        if one["verdict"] not in ("accepted", "refused") or one["peak"] > LARGEST_PEAK:
            kind, channel, way, _ = case(one["index"], options, originals)
            said = {"index": one["index"], "kind": kind.name, "way": way, "channel": channel, "peak": one["peak"]}
            print(json.dumps(said | {"verdict": one["verdict"], "reason": one["reason"]}), file=sys.stderr)
    if options["output"]:
        Path(options["output"]).write_text(f"{text}\n")
    bad = [one for one in found if one["verdict"] not in ("accepted", "refused") or one["peak"] > LARGEST_PEAK]
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
