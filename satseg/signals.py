"""What the system may ask of a run: that it ends, and under Slurm that it is started again."""

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

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the second is what a Slurm job asks for with --signal=USR1@300
SLURM_TIMEOUT_S = 30.0
RERAISE_DELAY_S = 0.05  # until what was dropped is raised again
RERUN_ADVICE = "To go on, give the same command again."


class StopRequested(BaseException):
    """The system's request on its way out of a run; no error, which a library may take for one of its own.

    Attributes:
        requeue: Whether Slurm is to start the job again.
        advice: How the user goes on.
    """

    def __init__(self, requeue: bool) -> None:
        super().__init__("The system asked the run to end.")
        self.requeue, self.advice = requeue, ""


STOP_EXCEPTIONS = (StopRequested, KeyboardInterrupt)


@dataclass
class _Request:
    """What this process has been asked; signals are the process's, so there is one."""

    process: int = 0
    received: int | None = None
    is_deferred: bool = False  # for who looks, and saves first
    forward: Callable[[int], None] | None = None
    is_stopping: bool = False
    is_complete: bool = False


_request = _Request()
_reason: Callable[[], BaseException] = KeyboardInterrupt  # makes what is raised again where it is dropped
_num_forks = 0  # that are under way, in all threads


def _raise_outside_fork(reason: Callable[[], BaseException]) -> None:
    """Raise from a signal's handler; where a library forks, a moment later."""
    global _reason
    _reason = reason
    if _num_forks:  # Python drops what is raised in a hook of fork, and the lock that the hook was to release is kept
        signal.setitimer(signal.ITIMER_REAL, RERAISE_DELAY_S)
    else:
        raise reason()


@contextmanager
def _reraising_dropped() -> Iterator[None]:
    """Have what ends the block raised again where Python drops it: in destructors, and callbacks of weak references."""
    global _reason
    _reason = KeyboardInterrupt  # which Python itself raises for Ctrl-C
    hook, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)

    def look(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, STOP_EXCEPTIONS):
            signal.setitimer(signal.ITIMER_REAL, RERAISE_DELAY_S)
        else:
            hook(unraisable)

    def again(number: int, frame: FrameType | None) -> None:
        if not (_request.is_deferred or _request.is_complete):
            _raise_outside_fork(_reason)

    sys.unraisablehook = look
    signal.signal(signal.SIGALRM, again)
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


# The hooks before a fork run in reverse order: these surround those of the libraries that were imported earlier.
os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_fork)


@contextmanager
def listening(requeues: bool = True) -> Iterator[None]:
    """End the block where the system asks for it; only a main thread may listen.

    Args:
        requeues: Whether to have Slurm start the job again, where it was Slurm that asked.

    Raises:
        InterruptedRunError: Wherever the block is; at once, where the run before it was asked when it was complete.
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
    """End the block as Ctrl-C would where the system asks for it while nobody is `listening`, such as at the start.

    Args:
        is_process: Whether the block is all that this process does; what comes behind it is left in peace then.
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
    print(f"{InterruptedRunError.__name__}: The system asked the run to end. {RERUN_ADVICE}", file=sys.stderr)
    _raise_outside_fork(KeyboardInterrupt)


@contextmanager
def blocked() -> Iterator[None]:
    """Have processes that are started in the block hold signals back until they listen."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _request.process:
        return  # a copy of it
    _request.received = _request.received or number  # at its time limit Slurm sends both
    if _request.forward:
        _request.forward(number)
    if not (_request.is_deferred or _request.is_stopping or _request.is_complete):
        _request.is_stopping = True  # more signals, which come in bursts, would interrupt what cleans up
        requeue = not is_cancelled()  # whichever rank this is: others may wait for it in a library
        _raise_outside_fork(lambda: StopRequested(requeue))


@contextmanager
def deferred(forward: Callable[[int], None] | None = None) -> Iterator[None]:
    """Interrupt nothing in the block, which may look whether it is `asked`, save, and `end`; else it ends behind it.

    Args:
        forward: Is told of each signal.

    Raises:
        StopRequested: Behind the block; and where it failed when it was asked, as other processes may have ended.
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
    """Take what fails in the block after it was interrupted for that: a library may turn one error into another.

    Raises:
        StopRequested: Instead.
    """
    try:
        yield
    except Exception:
        if _request.is_stopping and not _request.is_complete:
            stop()
        raise


def forward_pending() -> None:
    """Forward what was received before there was anyone to forward it to; once more does no harm."""
    if _request.received is not None and _request.forward:
        _request.forward(_request.received)


def check() -> None:
    """End here, where the request was dropped: Python drops what is raised in a destructor or a library's callback.

    Raises:
        StopRequested: If the process has been asked.
    """
    if stop_requested():
        stop()


def stop_requested() -> bool:
    """Tell whether the system has asked this process to end."""
    return _request.received is not None


def is_cancelled() -> bool:
    """Tell whether it is not to be started again."""
    return _request.received == signal.SIGTERM


def stop(cancelled: bool = False) -> NoReturn:
    """End the run.

    Args:
        cancelled: Whether another rank knows that it `is_cancelled`.

    Raises:
        StopRequested: Always; of several ranks the first asks Slurm.
    """
    _request.is_stopping = True
    raise StopRequested(requeue=is_rank_zero() and not (cancelled or is_cancelled()))


def mark_complete() -> None:
    """From here on the run has nothing to lose or to repeat: let it end by itself."""
    _request.is_complete = True


def ignore() -> None:
    """Take no notice from here on: all is done, or whoever started this process, and is asked too, sees to it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _requeue() -> None:
    """Ask Slurm to start the job again, if this is one."""
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
        logger.warning("Slurm could not be asked to start job %s again: %s", job, getattr(error, "stderr", "") or error)
        return
    logger.info("Slurm was asked to start job %s again.", job)
