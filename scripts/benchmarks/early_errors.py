"""Measure the time until an invalid command fails: median wall and CPU seconds of several checkouts.

python scripts/benchmarks/early_errors.py 5 /path/to/old /path/to/new
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = (
    "train trainer.max_epoch=3",
    "train optimizer.lr=abc",
    "train dataset=folder dataset.root=gone",
    "evaluate checkpoint=gone",
    "predict input=gone.tif engine=tensorrt",
    "report runs=gone",
)


def seconds(checkout: str, command: str, folder: str) -> tuple[float, float]:
    """Run an invalid command; return its wall time and CPU time."""
    name, *options = command.split()
    environment = os.environ | {"PYTHONPATH": checkout, "OMP_NUM_THREADS": "1"}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", f"satseg.{name}", *options], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, (command, done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, computed


def main() -> None:
    """Print a table with a row per command and a column per checkout."""
    rounds, checkouts = int(sys.argv[1]), sys.argv[2:]
    print(f"| command | {' | '.join(checkouts)} |\n| --- |{' --: |' * len(checkouts)}")
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            taken: dict[str, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
            for _ in range(rounds):
                for checkout in checkouts:
                    taken[checkout].append(seconds(checkout, command, folder))
            medians = [[statistics.median(kind) for kind in zip(*times, strict=True)] for times in taken.values()]
            cells = [f"{passed:.2f} s ({computed:.2f} s)" for passed, computed in medians]
            print(f"| {command} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
