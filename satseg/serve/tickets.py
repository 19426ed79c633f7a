"""Tickets: progress, position and cancellation of jobs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from satseg.errors import CancelledError
from satseg.serve.estimates import Estimate

Result = TypeVar("Result")
T_co = TypeVar("T_co", covariant=True)
MIN_SHARE = 0.02  # of a job, from which its own speed is a better estimate than past jobs


def approximate_duration(seconds: float) -> str:
    """Format a duration that is not known to the second."""
    if seconds < 20:
        return f"about {max(1, math.ceil(seconds))} s"
    if seconds < 90:
        return f"about {5 * math.ceil(seconds / 5)} s"
    return f"about {math.ceil(seconds / 60)} minutes"


class QueuePosition(NamedTuple):
    """Position of an unfinished job in the queue.

    Attributes:
        place: One-based rank by arrival; the first runs, others only when it lets them overtake.
        total: Number of waiting and running jobs in the lane.
        seconds_left: Estimated seconds until the job is finished.
    """

    place: int
    total: int
    seconds_left: float


class Queue(Protocol):
    """The queue, as tickets use it."""

    def withdraw(self, ticket: Ticket) -> None:
        """Remove a waiting job from the queue."""

    def yield_turn(self, ticket: Ticket) -> None:
        """Pause while other jobs go first."""

    def queue_position(self, ticket: Ticket) -> QueuePosition | None:
        """Return a job's position in the queue; None if it is finished."""


@dataclass(eq=False)
class Ticket:
    """Reports a job's progress, and cancels it.

    Attributes:
        total: Number of steps, as far as it is known.
        finished: Number of finished steps.
        estimate: Estimated cost.
        number: Serial number, by arrival.
        patient: Whether the client sees its place in the queue, and waits as long as it takes.
        is_long: Whether the job is in the lane of long jobs, which pause for short ones.
        started: Start of the run, in seconds of the monotonic clock; None while it waits.
        resumed: End of the last pause, on the same clock.
        paused: Total seconds of pauses.
    """

    total: int = 0
    finished: int = 0
    estimate: Estimate = field(default_factory=Estimate)
    number: int = 0
    patient: bool = True
    is_long: bool = False
    started: float | None = None
    resumed: float = 0.0
    paused: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _queue: Queue | None = field(default=None, repr=False)

    def begin(self, estimate: Estimate, *, is_long: bool) -> None:
        """Reset the ticket to wait for a run."""
        self.estimate, self.is_long = estimate, is_long
        self.total, self.finished = 0, 0
        self.started, self.resumed, self.paused = None, 0.0, 0.0

    def record_duration(self) -> None:
        """Teach the cost model the job's duration, if it was neither cancelled nor failed."""
        if self.started is not None and self.share == 1:
            self.estimate.learn(time.monotonic() - self.started - self.paused)

    def tick(self, steps: int = 1) -> None:
        """Report finished steps; a long job pauses for short ones here.

        Raises:
            CancelledError: If the job was cancelled.
        """
        if self._queue is not None:
            self._queue.yield_turn(self)
        if self._stop.is_set():
            raise CancelledError("Cancelled.")
        self.finished += steps

    def reach(self, share: float) -> None:
        """Report the finished share, 0 to 1.

        Raises:
            CancelledError: If the job was cancelled.
        """
        self.tick(max(0, round(share * self.total) - self.finished))

    def complete(self) -> None:
        """Report that the job is finished.

        Raises:
            CancelledError: If the job was cancelled.
        """
        self.total = max(self.total, 1)
        self.reach(1)

    def cancel(self) -> None:
        """Cancel the job at its next step; a waiting one never starts, and leaves the queue at once."""
        self._stop.set()
        if self._queue is not None:
            self._queue.withdraw(self)

    @property
    def cancelled(self) -> bool:
        """True if the job was cancelled."""
        return self._stop.is_set()

    @property
    def share(self) -> float:
        """Finished share, 0 to 1."""
        return min(self.finished / self.total, 1.0) if self.total else 0.0

    @property
    def queue_position(self) -> QueuePosition | None:
        """Position in the queue; None if it is finished."""
        return None if self._queue is None else self._queue.queue_position(self)

    def seconds_left(self) -> float:
        """Return the estimated remaining run time in seconds, from its own speed once that is known well enough."""
        if self.started is None:
            return self.estimate.seconds
        taken = time.monotonic() - self.started
        if self.share > MIN_SHARE:
            return taken / self.share - taken
        worked = taken - self.paused
        return max(self.estimate.seconds - worked, worked / 10)  # a guess, if it takes longer than expected


@dataclass(frozen=True)
class Continuation(Generic[T_co]):
    """Result of a job that continues with work of another cost, which was not known before."""

    work: Callable[[Ticket], T_co | Continuation[T_co]]
    estimate: Estimate


@dataclass(frozen=True)
class Job(Generic[Result]):
    """A waiting, running or finished job."""

    ticket: Ticket
    future: Future[Result]
    work: Callable[[Ticket], Result | Continuation[Result]]

    def wait(self, seconds: float) -> bool:
        """Wait for at most `seconds`; return whether the job is finished, however it ended."""
        try:
            self.future.exception(seconds)
        except FutureTimeoutError:
            return False
        return True

    def result(self) -> Result:
        """Return the result, waiting for it if need be.

        Raises:
            CancelledError: If it was cancelled.
        """
        return self.future.result()
