"""A process that loads data for this one and was killed: which error tells of it, and what the user is told."""

from __future__ import annotations

import re

from satseg.errors import WorkerLostError, causes

DEATH = re.compile(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)")
LESS = "set dataset.num_workers or dataset.cache_gb lower."


def lost_worker(error: BaseException) -> WorkerLostError | None:
    """Return what to tell the user where a loader's worker was killed; None for any other error.

    Torch tells of it wherever the process happens to be, so another library may have wrapped the error.
    """
    deaths = (DEATH.search(str(cause)) for cause in causes(error) if isinstance(cause, RuntimeError))
    death = next(filter(None, deaths), None)
    if death is None:
        return None
    match death["signal"]:
        case None | "Killed":
            why = f"was killed, most likely because memory ran out: {LESS}"
        case "Bus error":
            why = f"was killed, most likely because shared memory (/dev/shm) ran out: enlarge it, or {LESS}"
        case "Terminated":
            why = "was ended from outside."
        case name:
            why = f"crashed ({name}): dataset.num_workers=0 shows where."
    return WorkerLostError(f"A process that loads data {why}")
