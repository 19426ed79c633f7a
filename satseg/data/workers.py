"""Worker processes of data loaders: their signals, their end, and the error for one that was killed."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.queues
import os
import re
import signal
from functools import cache
from typing import Any

from satseg import signals
from satseg.errors import WorkerLostError, causes

WORKER_DEATH = re.compile(
    r"DataLoader worker \(pid.*?\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)"
)
MEMORY_ADVICE = "set dataset.num_workers or dataset.cache_gb lower."


def prepare_worker(worker: int) -> None:
    """Make a worker ignore termination signals, as training saves first and then ends its workers.

    A worker that cannot pass on what it has loaded, say for lack of memory, exits: training would wait for it forever.
    """
    signals.ignore()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_exit_worker)  # type: ignore[attr-defined]


def _exit_worker(error: Exception, loaded: Any) -> None:
    os._exit(1)  # from a thread; torch then reports the lost process


@cache
def kill_workers_at_exit() -> None:
    """Kill remaining workers at exit: they only read, and ignore the signal by which Python ends them."""
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch reports that they were killed
    for worker in workers:
        worker.kill()


def worker_lost_error(error: BaseException) -> WorkerLostError | None:
    """Return the error to report if a loader's worker was killed; None for any other error.

    Torch raises it wherever the main process happens to be, so another library may have wrapped it.
    """
    deaths = (WORKER_DEATH.search(str(cause)) for cause in causes(error) if isinstance(cause, RuntimeError))
    death = next(filter(None, deaths), None)
    if death is None:
        return None
    match death["signal"]:
        case None | "Killed":
            why = f"was killed, most likely because memory ran out: {MEMORY_ADVICE}"
        case "Bus error":
            why = f"was killed, most likely because shared memory (/dev/shm) ran out: enlarge it, or {MEMORY_ADVICE}"
        case "Terminated":
            why = "was ended from outside."
        case name:
            why = f"crashed ({name}): dataset.num_workers=0 shows where."
    return WorkerLostError(f"A data loading process {why}")
