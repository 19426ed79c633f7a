"""The processes that load data beside training."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.queues
import os
import signal
from functools import cache
from typing import Any

from satseg import signals


def prepare_worker(worker: int) -> None:
    """Let a worker live on where the system asks all processes to end: training saves first, and ends it.

    It ends where it cannot hand over what it has loaded, such as without memory: training would wait for that forever.
    """
    signals.ignore()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]


def _give_up(error: Exception, loaded: Any) -> None:
    os._exit(1)  # this is a thread's; torch's own words about the lost process are the user's


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
