"""What the system may ask of a run: that it ends, and under Slurm that it is started again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from satseg.errors import InterruptedRunError
from satseg.ranks import is_first

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the second is what a Slurm job asks for with --signal=USR1@300


@dataclass
class _Request:
    """What this process has been asked; signals are the process's, so there is one."""

    process: int = 0
    received: int | None = None
    waits: bool = False  # for who looks, and saves first
    ended: bool = False  # or about to, by itself


_request = _Request()


@contextmanager
def listening() -> Iterator[None]:
    """End the block where the system asks for it; only a main thread may listen.

    Raises:
        InterruptedRunError: Wherever the block is.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _request = _Request(os.getpid())
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    take_signals()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _request = _Request()


def take_signals() -> None:
    """Listen again, in place of a library; does nothing but in a process that is listening."""
    if _request.process == os.getpid():
        for number in SIGNALS:
            signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _request.process:
        return  # one that loads data for it, and is asked with it
    _request.received = _request.received or number  # at its time limit Slurm sends both
    if not (_request.waits or _request.ended):
        end()


@contextmanager
def deferred() -> Iterator[None]:
    """Interrupt nothing in the block, which may look whether it is `asked`, save, and `end`; else it ends behind it.

    Raises:
        InterruptedRunError: Behind the block.
    """
    _request.waits = True
    try:
        yield
    finally:
        _request.waits = False
    if asked():
        end()


def asked() -> bool:
    """Tell whether the system has asked this process to end."""
    return _request.received is not None


def end() -> NoReturn:
    """End the run; where it was not SIGTERM that asked for it, let Slurm start the job again.

    Raises:
        InterruptedRunError: Always.
    """
    _request.ended = True  # more signals, which come in bursts, would interrupt what cleans up
    job = os.environ.get("SLURM_JOB_ID")
    if job and is_first() and _request.received != signal.SIGTERM:
        _requeue(job)
    raise InterruptedRunError("The system asked the run to end.")


def complete() -> None:
    """From here on the run has nothing to lose or to repeat: let it end by itself."""
    _request.ended = True


def _requeue(job: str) -> None:
    """Ask Slurm to start the job again."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("Slurm could not be asked to start job %s again: %s", job, getattr(error, "stderr", "") or error)
        return
    logger.info("Slurm was asked to start job %s again.", job)
