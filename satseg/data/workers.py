"""The processes that load data beside training."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from functools import cache

from satseg import ending


def leave_signals_to_training(worker: int) -> None:
    """Let a worker live on where the system asks all processes to end: training saves first, and ends it."""
    ending.ignore()


@cache
def end_with_this_process() -> None:
    """Kill workers that are left at the end: they only read, and the signal by which Python ends them is ignored."""
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch says that they were killed
    for worker in workers:
        worker.kill()
