"""One queue for all that is computed: jobs run one after the other, tell how far they are, and can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakSet

from satseg.errors import BusyError, CancelledError

Result = TypeVar("Result")


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
        """Stop the job at its next step; one that waits never starts."""
        self._stop.set()

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
        self._places = threading.BoundedSemaphore(most_waiting + 1)
        self._tickets: WeakSet[Ticket] = WeakSet()

    def submit(self, work: Callable[[Ticket], Result]) -> Job[Result]:
        """Take a job.

        Raises:
            BusyError: If too many wait already.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("Too many images are waiting; try again in a minute.")
        ticket = Ticket()
        try:
            future = self._pool.submit(self._run, work, ticket)
        except BaseException:
            self._places.release()
            raise
        self._tickets.add(ticket)
        return Job(ticket, future)

    def _run(self, work: Callable[[Ticket], Result], ticket: Ticket) -> Result:
        try:
            ticket.tick(0)
            ticket.started = True
            return work(ticket)
        finally:
            self._places.release()

    def close(self) -> None:
        """Take no more, and stop what waits or runs."""
        for ticket in self._tickets:
            ticket.cancel()
        self._pool.shutdown()
