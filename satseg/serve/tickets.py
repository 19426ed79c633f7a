"""What a job tells while it waits and runs, and how it is stopped."""

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
Made = TypeVar("Made", covariant=True)
TELLING_SHARE = 0.02  # of a job, from which on its own speed tells more than that of others


def approximate_duration(seconds: float) -> str:
    """Return a time as it is said where nobody knows it to the second."""
    if seconds < 20:
        return f"about {max(1, math.ceil(seconds))} s"
    if seconds < 90:
        return f"about {5 * math.ceil(seconds / 5)} s"
    return f"about {math.ceil(seconds / 60)} minutes"


class QueuePosition(NamedTuple):
    """Where an unfinished job stands.

    Attributes:
        place: In the order in which they came; the first runs, and others only when it lets them pass.
        total: Jobs that wait or run in its lane.
        seconds_left: Until it is finished, as far as can be told.
    """

    place: int
    total: int
    seconds_left: float


class Queue(Protocol):
    """What a ticket asks of its queue."""

    def withdraw(self, ticket: Ticket) -> None:
        """Take a job that waits out of the queue."""

    def yield_turn(self, ticket: Ticket) -> None:
        """Wait while others go first."""

    def queue_position(self, ticket: Ticket) -> QueuePosition | None:
        """Return where a job stands; None where it is finished."""


@dataclass(eq=False)
class Ticket:
    """What a job tells, and how it is stopped, while it runs.

    Attributes:
        total: Steps that it will take, as far as it is known.
        finished: Steps that it has taken.
        estimate: What it will take.
        number: Of those that came before it.
        patient: Whether its owner is told its place and waits as long as it takes.
        is_long: Whether it runs beside short ones, and lets them pass.
        started: When its turn came, in seconds of the monotonic clock; None where it waits.
        resumed: When it last had given way to others, on the same clock.
        paused: Seconds for which it has.
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
        """Wait for a turn; what was done before does not count."""
        self.estimate, self.is_long = estimate, is_long
        self.total, self.finished = 0, 0
        self.started, self.resumed, self.paused = None, 0.0, 0.0

    def record_duration(self) -> None:
        """Note what the work took, where all of it was done: it may have failed, or been cancelled."""
        if self.started is not None and self.share == 1:
            self.estimate.learn(time.monotonic() - self.started - self.paused)

    def tick(self, steps: int = 1) -> None:
        """Say that steps are finished; a long job lets short ones pass here.

        Raises:
            CancelledError: If the job was cancelled.
        """
        if self._queue is not None:
            self._queue.yield_turn(self)
        if self._stop.is_set():
            raise CancelledError("Cancelled.")
        self.finished += steps

    def reach(self, share: float) -> None:
        """Say that so much is finished, 0 to 1, whatever the steps were.

        Raises:
            CancelledError: If the job was cancelled.
        """
        self.tick(max(0, round(share * self.total) - self.finished))

    def complete(self) -> None:
        """Say that all is finished.

        Raises:
            CancelledError: If the job was cancelled.
        """
        self.total = max(self.total, 1)
        self.reach(1)

    def cancel(self) -> None:
        """Stop the job at its next step; one that waits never starts, and its place is free at once."""
        self._stop.set()
        if self._queue is not None:
            self._queue.withdraw(self)

    @property
    def cancelled(self) -> bool:
        """Whether the job was told to stop."""
        return self._stop.is_set()

    @property
    def share(self) -> float:
        """How much is finished, 0 to 1."""
        return min(self.finished / self.total, 1.0) if self.total else 0.0

    @property
    def queue_position(self) -> QueuePosition | None:
        """Where it stands; None where it is finished."""
        return None if self._queue is None else self._queue.queue_position(self)

    def seconds_left(self) -> float:
        """Return how long it will run from now on, or from its turn on: by its own speed once that tells enough."""
        if self.started is None:
            return self.estimate.seconds
        taken = time.monotonic() - self.started
        if self.share > TELLING_SHARE:
            return taken / self.share - taken
        worked = taken - self.paused
        return max(self.estimate.seconds - worked, worked / 10)  # nobody knows of one that takes longer than expected


@dataclass(frozen=True)
class Continuation(Generic[Made]):
    """What a job returns that goes on with work of another length, which was not known before."""

    work: Callable[[Ticket], Made | Continuation[Made]]
    estimate: Estimate


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Work that waits, runs or is finished."""

    ticket: Ticket
    future: Future[Result]
    work: Callable[[Ticket], Result | Continuation[Result]]

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
