"""Stop requests from the system: SIGTERM, and under Slurm SIGUSR1, after which the job is requeued."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from satseg.errors import InterruptedRunError, RunError, SatsegError
from satseg.ranks import is_rank_zero

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm sends the second with --signal=USR1@300
SLURM_TIMEOUT_S = 30.0
RERAISE_DELAY_S = 0.05  # before a dropped exception is raised again
RERUN_ADVICE = "To continue, repeat the command."


class StopRequested(BaseException):
    """Raised where the system asks a run to stop; a BaseException, so that no library handles it as an error.

    Attributes:
        requeue: Whether Slurm should requeue the job.
        advice: How the user can continue.
    """

    def __init__(self, requeue: bool) -> None:
        super().__init__("The system asked the run to stop.")
        self.requeue, self.advice = requeue, ""


STOP_EXCEPTIONS = (StopRequested, KeyboardInterrupt)


@dataclass
class _Request:
    """State of the stop request of this process; a process has only one, as signals are global."""

    process: int = 0
    received: int | None = None
    is_deferred: bool = False  # lets the block poll for a stop request and save before it ends
    forward: Callable[[int], None] | None = None
    is_stopping: bool = False
    is_complete: bool = False


_request = _Request()
_reason: Callable[[], BaseException] = KeyboardInterrupt  # makes the exception that replaces a dropped one
_num_forks = 0  # forks in progress, in all threads


def _raise_outside_fork(reason: Callable[[], BaseException]) -> None:
    """Raise an exception from a signal handler; during a fork, schedule it for a moment later."""
    global _reason
    _reason = reason
    if _num_forks:  # Python drops exceptions in fork hooks, and locks they would release stay held
        signal.setitimer(signal.ITIMER_REAL, RERAISE_DELAY_S)
    else:
        raise reason()


@contextmanager
def _reraising_dropped() -> Iterator[None]:
    """Raise stop exceptions again that Python drops in destructors and weak reference callbacks within the block."""
    global _reason
    _reason = KeyboardInterrupt  # Python's own exception on Ctrl-C
    hook, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)

    def reschedule(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, STOP_EXCEPTIONS):
            signal.setitimer(signal.ITIMER_REAL, RERAISE_DELAY_S)
        else:
            hook(unraisable)

    def reraise(number: int, frame: FrameType | None) -> None:
        if not (_request.is_deferred or _request.is_complete):
            _raise_outside_fork(_reason)

    sys.unraisablehook = reschedule
    signal.signal(signal.SIGALRM, reraise)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = hook


def _begin_fork() -> None:
    global _num_forks
    _num_forks += 1


def _end_fork() -> None:
    global _num_forks
    _num_forks = max(_num_forks - 1, 0)


# Hooks before a fork run in reverse order, so these enclose the hooks of libraries imported earlier.
os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_fork)


@contextmanager
def listening(requeues: bool = True) -> Iterator[None]:
    """Stop the block when the system asks for it; does nothing outside the main thread.

    Args:
        requeues: Whether to have Slurm requeue the job if the request came from Slurm.

    Raises:
        InterruptedRunError: On a stop request; at once if one arrived after the previous run was complete.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    _request = _Request(os.getpid(), _request.received)
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, _handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        check()
        with replacing_errors_after_stop(), _reraising_dropped():
            yield
    except StopRequested as request:
        if request.requeue and requeues:
            _requeue()
        raise InterruptedRunError(f"{request} {request.advice or RERUN_ADVICE}") from None
    finally:
        is_left = _request.is_complete and not _request.is_stopping
        _request.is_stopping = True
        for number, handler in previous.items():
            signal.signal(number, handler)
        _request = _Request(received=_request.received if is_left else None)


@contextmanager
def startup(is_process: bool) -> Iterator[None]:
    """Stop the block as Ctrl-C would on a stop request outside `listening`, such as during imports.

    Args:
        is_process: Whether the block is the whole process; signals after it are then ignored.
    """
    previous = {number: signal.signal(number, _stop_startup) for number in STOP_SIGNALS}
    try:
        with _reraising_dropped():
            yield
    finally:
        if is_process:
            ignore()
        else:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _stop_startup(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGTERM:
        _requeue()
    print(f"{InterruptedRunError.__name__}: The system asked the run to stop. {RERUN_ADVICE}", file=sys.stderr)
    _raise_outside_fork(KeyboardInterrupt)


@contextmanager
def blocked() -> Iterator[None]:
    """Block stop signals, so that processes started in the block receive them only once they listen."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _request.process:
        return  # a forked copy
    _request.received = _request.received or number  # Slurm sends both at the time limit
    if _request.forward:
        _request.forward(number)
    if not (_request.is_deferred or _request.is_stopping or _request.is_complete):
        _request.is_stopping = True  # further signals, which come in bursts, must not interrupt the cleanup
        requeue = not is_cancelled()  # on any rank, as the others may be waiting in a library
        _raise_outside_fork(lambda: StopRequested(requeue))


@contextmanager
def deferred(forward: Callable[[int], None] | None = None) -> Iterator[None]:
    """Defer a stop request: the block may poll `stop_requested`, save and `stop`; else it is raised after the block.

    Args:
        forward: Called with each signal.

    Raises:
        StopRequested: After the block; also if it failed after a request, as other processes may have stopped.
    """
    _request.is_deferred, _request.forward = True, forward
    try:
        yield
    except Exception as error:
        if stop_requested() and (isinstance(error, RunError) or not isinstance(error, SatsegError)):
            stop()
        raise
    finally:
        _request.is_deferred, _request.forward = False, None
    if stop_requested() and not _request.is_complete:
        stop()


@contextmanager
def replacing_errors_after_stop() -> Iterator[None]:
    """Replace errors that follow an interruption, as a library may turn it into an error of its own.

    Raises:
        StopRequested: Instead of the error.
    """
    try:
        yield
    except Exception:
        if _request.is_stopping and not _request.is_complete:
            stop()
        raise


def forward_pending() -> None:
    """Forward a signal that arrived before there were processes to forward it to; repeating it is harmless."""
    if _request.received is not None and _request.forward:
        _request.forward(_request.received)


def check() -> None:
    """Stop if a request was dropped, as Python drops exceptions in destructors and callbacks.

    Raises:
        StopRequested: If a stop is requested.
    """
    if stop_requested():
        stop()


def stop_requested() -> bool:
    """Return True if the system has asked this process to stop."""
    return _request.received is not None


def is_cancelled() -> bool:
    """Return True if the job should not be requeued."""
    return _request.received == signal.SIGTERM


def stop(cancelled: bool = False) -> NoReturn:
    """Stop the run.

    Args:
        cancelled: Whether another rank reports `is_cancelled`.

    Raises:
        StopRequested: Always; only rank zero requeues the job.
    """
    _request.is_stopping = True
    raise StopRequested(requeue=is_rank_zero() and not (cancelled or is_cancelled()))


def mark_complete() -> None:
    """Mark the run as complete: it may finish by itself, as nothing is left to save."""
    _request.is_complete = True


def ignore() -> None:
    """Ignore stop signals from now on: all is done, or the parent process handles them."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _requeue() -> None:
    """Ask Slurm to requeue the job, if this is one."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(
            ["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=SLURM_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("Slurm could not requeue job %s: %s", job, getattr(error, "stderr", "") or error)
        return
    logger.info("Slurm requeues job %s.", job)
