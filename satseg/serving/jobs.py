"""One queue for all that is computed: jobs run one after the other, tell how far they are, and can be cancelled."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from satseg.errors import BusyError, CancelledError, StoppingError

Result = TypeVar("Result")
RECENT = 8  # jobs over which their time is averaged


@dataclass(eq=False)
class Ticket:
    """What a job tells, and how it is stopped, while it runs.

    Attributes:
        total: Steps that it will take, as far as it is known.
        finished: Steps that it has taken.
        started: Whether its turn has come.
    """

    total: int = 0
    finished: int = 0
    started: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _withdraw: Callable[[Ticket], None] = field(default=lambda ticket: None, repr=False)

    def tick(self, steps: int = 1) -> None:
        """Say that steps are finished.

        Raises:
            CancelledError: If the job was cancelled.
        """
        if self._stop.is_set():
            raise CancelledError("Cancelled.")
        self.finished += steps

    def reach(self, share: float) -> None:
        """Say that so much is finished, 0 to 1, whatever the steps were.

        Raises:
            CancelledError: If the job was cancelled.
        """
        self.tick(max(0, round(share * self.total) - self.finished))

    def cancel(self) -> None:
        """Stop the job at its next step; one that waits never starts, and its place is free at once."""
        self._stop.set()
        self._withdraw(self)

    @property
    def cancelled(self) -> bool:
        """Whether the job was told to stop."""
        return self._stop.is_set()

    @property
    def share(self) -> float:
        """How much is finished, 0 to 1."""
        return min(self.finished / self.total, 1.0) if self.total else 0.0


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Work that waits, runs or is finished."""

    ticket: Ticket
    future: Future[Result]

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; return whether the job is finished, however it ended."""
        try:
            self.future.exception(seconds)
        except FutureTimeoutError:
            return False
        return True

    def result(self) -> Result:
        """Return what came of it, when it is finished.

        Raises:
            CancelledError: If it was cancelled.
        """
        return self.future.result()


class Jobs:
    """Runs jobs in one thread, in the order in which they came.

    Args:
        most_waiting: Jobs that may wait beside the one that runs.
    """

    def __init__(self, most_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._most = most_waiting + 1
        self._changed = threading.Condition()
        self._waiting: dict[Ticket, tuple[Callable[[Ticket], Any], Future[Any]]] = {}
        self._running: Ticket | None = None
        self._open = True
        self._seconds = 1.0  # that a job takes, of late

    @property
    def capacity(self) -> int:
        """Jobs that may wait or run."""
        return self._most

    @property
    def num_unfinished(self) -> int:
        """Jobs that wait or run."""
        return len(self._waiting) + (self._running is not None)

    @property
    def is_open(self) -> bool:
        """Whether jobs are taken."""
        return self._open

    def patience(self) -> int:
        """Return in how many seconds it makes sense to ask again."""
        return max(1, math.ceil(self._seconds * self.num_unfinished))

    def check(self) -> None:
        """See whether a job would be taken.

        Raises:
            BusyError: If too many wait already.
            StoppingError: If the server is about to end.
        """
        with self._changed:
            self._check()

    def _check(self) -> None:
        if not self._open:
            raise StoppingError("The server is about to stop; try again in a minute.")
        if self.num_unfinished >= self._most:
            raise BusyError("Too many images are waiting; try again in a minute.")

    def submit(self, work: Callable[[Ticket], Result], *, beyond: bool = False) -> Job[Result]:
        """Take a job.

        Args:
            work: What to do.
            beyond: Take it though too many wait: it was accepted before.

        Raises:
            BusyError: If too many wait already.
            StoppingError: If the server is about to end.
        """
        with self._changed:
            if not beyond or not self._open:
                self._check()
            ticket, future = Ticket(_withdraw=self._withdraw), Future[Result]()
            future.set_running_or_notify_cancel()  # it is cancelled by its ticket alone
            self._waiting[ticket] = work, future
            self._pool.submit(self._run_next)
        return Job(ticket, future)

    def _withdraw(self, ticket: Ticket) -> None:
        with self._changed:
            waiting = self._waiting.pop(ticket, None)
            self._changed.notify_all()
        if waiting is not None:
            waiting[1].set_exception(CancelledError("Cancelled."))

    def _run_next(self) -> None:
        with self._changed:
            if not self._waiting:  # it was withdrawn
                return
            ticket, (work, future) = next(iter(self._waiting.items()))
            del self._waiting[ticket]
            self._running, ticket.started = ticket, True
        start = time.monotonic()
        try:
            result = work(ticket)
        except BaseException as error:
            self._end(time.monotonic() - start)
            future.set_exception(error)
            del future  # else the error would hold itself by its traceback
        else:
            self._end(time.monotonic() - start)
            future.set_result(result)

    def _end(self, seconds: float) -> None:
        self._seconds += (seconds - self._seconds) / RECENT
        with self._changed:
            self._running = None
            self._changed.notify_all()

    def drain(self) -> None:
        """Take no more, and return when all that was taken is finished."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self.num_unfinished)

    def close(self, *, wait: bool = True) -> None:
        """Take no more, and stop what waits or runs; where it is waited for, nothing runs afterwards."""
        with self._changed:
            self._open = False
            unfinished = [*self._waiting, *([self._running] if self._running else [])]
        for ticket in unfinished:
            ticket.cancel()
        self._pool.shutdown(wait)
