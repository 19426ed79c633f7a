"""The job queue: short jobs overtake long ones, and each kind runs one at a time."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from satseg.errors import BusyError, CancelledError, ShuttingDownError
from satseg.serve.estimates import Estimate
from satseg.serve.tickets import Continuation, Job, QueuePosition, Ticket, approximate_duration

Result = TypeVar("Result")
# A long job pauses between its steps while short ones wait or run, for at most this multiple of the time that it has
# worked, so that it gets at least a quarter of the time under any load.
MAX_REST_RATIO = 3.0
MIN_LENGTH_RATIO = 4  # a long job lets another overtake it if its own remaining time is this many times longer
NICE_INCREMENT = 2  # of long jobs' threads; on a machine busy with other work, more would starve them


def _lower_priority() -> None:
    """Lower this thread's CPU priority in favour of short jobs; threads that it starts inherit this."""
    if sys.platform == "linux":  # elsewhere it would affect the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE_INCREMENT)


@dataclass
class _Lane:
    """Jobs that run one at a time, in order of arrival."""

    pool: ThreadPoolExecutor
    waiting: dict[Ticket, Job[Any]] = field(default_factory=dict)
    running: list[Ticket] = field(default_factory=list)  # only the last one runs; the others let it overtake them

    @property
    def tickets(self) -> list[Ticket]:
        """Running and waiting jobs, in order of arrival."""
        return sorted([*self.running, *self.waiting], key=lambda ticket: ticket.number)

    def seconds_left(self) -> float:
        return sum(ticket.seconds_left() for ticket in self.tickets)

    def finishing_order(self) -> list[Ticket]:
        """Return running and waiting jobs in the order in which they are expected to finish."""
        return [*reversed(self.running), *self.waiting]


class Jobs:
    """Runs jobs in two threads, one for short jobs and one for long ones.

    A short job waits for other short jobs only. A long one pauses between its steps while they run, and lets a waiting
    long job that is much shorter overtake it.

    So models are used by at most two threads, and memory is needed for one job of each kind. A job's estimate decides
    which kind it is.

    Args:
        most_waiting: Maximum number of waiting jobs with a patient client; of all others, the number per lane.
        most_seconds: Work of those others that may always wait in a lane, whatever their number.
    """

    def __init__(self, most_waiting: int, most_seconds: float = 10.0) -> None:
        self._most, self._most_seconds = most_waiting + 1, most_seconds
        self._short = _Lane(ThreadPoolExecutor(1, "short"))
        self._long = _Lane(ThreadPoolExecutor(1, "long", _lower_priority))
        self._lanes = (self._short, self._long)
        self._changed = threading.Condition()
        self._open = True
        self._numbers = itertools.count()

    @property
    def capacity(self) -> int:
        """Maximum number of waiting and running jobs with a patient client."""
        return self._most

    @property
    def num_unfinished(self) -> int:
        """Number of waiting and running jobs."""
        with self._changed:
            return sum(len(lane.tickets) for lane in self._lanes)

    @property
    def is_open(self) -> bool:
        """True while new jobs are accepted."""
        return self._open

    def seconds_left(self) -> float:
        """Return the estimated seconds until all waiting and running jobs are finished."""
        with self._changed:
            return sum(lane.seconds_left() for lane in self._lanes)

    def retry_after(self) -> int:
        """Return the seconds after which a client should retry."""
        return max(1, math.ceil(self.seconds_left()))

    def check(self, *, patient: bool = False) -> None:
        """Check that a job would be accepted, before its cost is known.

        Args:
            patient: Whether the client waits as long as it takes.

        Raises:
            BusyError: If too many wait already.
            ShuttingDownError: If the server is about to end.
        """
        with self._changed:
            self._check(self._short, 0.0, patient)

    def _check(self, lane: _Lane, seconds: float, patient: bool) -> None:
        if not self._open:
            raise ShuttingDownError("The server is about to stop; try again in a minute.")
        if patient:
            is_full = sum(ticket.patient for one in self._lanes for ticket in one.tickets) >= self._most
            left = min(one.seconds_left() for one in self._lanes if one.tickets) if is_full else 0.0
        else:
            waiting = [ticket.estimate.seconds for ticket in lane.waiting if not ticket.patient]
            is_empty = not lane.running or (not waiting and self._most_seconds > 0)  # whatever its cost
            is_full = not is_empty and len(waiting) + 1 >= self._most and sum(waiting) + seconds > self._most_seconds
            left = lane.seconds_left()
        if is_full:
            raise BusyError(f"Too many images are waiting; try again in {approximate_duration(left)}.", left)

    def submit(
        self,
        work: Callable[[Ticket], Result | Continuation[Result]],
        estimate: Estimate | None = None,
        *,
        patient: bool = True,
        force: bool = False,
    ) -> Job[Result]:
        """Queue a job.

        Args:
            work: The function to run.
            estimate: Its estimated cost; negligible by default.
            patient: Whether the client sees its place in the queue, and waits as long as it takes.
            force: Whether to queue it even if the queue is full, as it was accepted before.

        Raises:
            BusyError: If too many wait already.
            ShuttingDownError: If the server is about to end.
        """
        estimate = estimate or Estimate()
        with self._changed:
            lane = self._short if estimate.is_small else self._long
            if not force or not self._open:
                self._check(lane, estimate.seconds, patient)
            future = Future[Result]()
            future.set_running_or_notify_cancel()  # it can only be cancelled by its ticket
            job = Job(Ticket(patient=patient, number=next(self._numbers), _queue=self), future, work)
            self._enqueue(job, estimate)
        return job

    def _enqueue(self, job: Job[Any], estimate: Estimate) -> None:
        ticket, lane = job.ticket, self._short if estimate.is_small else self._long
        ticket.begin(estimate, is_long=lane is self._long)
        jobs = [*lane.waiting.values(), job]
        lane.waiting = {one.ticket: one for one in sorted(jobs, key=lambda one: one.ticket.number)}
        self._start_next(lane)

    def _start_next(self, lane: _Lane) -> None:
        if not lane.running and lane.waiting:
            lane.pool.submit(self._run, lane, self._begin(lane, next(iter(lane.waiting))))

    @staticmethod
    def _begin(lane: _Lane, ticket: Ticket) -> Job[Any]:
        lane.running.append(ticket)
        ticket.started = time.monotonic()
        return lane.waiting.pop(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Remove a waiting job from the queue; a paused one continues until it notices that it is cancelled."""
        with self._changed:
            job = next((lane.waiting.pop(ticket) for lane in self._lanes if ticket in lane.waiting), None)
            self._changed.notify_all()
        if job is not None:
            job.future.set_exception(CancelledError("Cancelled."))

    def yield_turn(self, ticket: Ticket) -> None:
        """Pause a long job while short ones wait or run, and let a much shorter one overtake it, within bounds."""
        with self._changed:
            if ticket not in self._long.running or ticket.started is None:
                return
            paused_at = time.monotonic()
            worked = paused_at - max(ticket.started, ticket.resumed)
            while self._short.running and not ticket.cancelled:
                if not self._changed.wait(max(paused_at + MAX_REST_RATIO * worked - time.monotonic(), 0.0)):
                    break
            resumed_at = time.monotonic()
            ticket.paused += resumed_at - paused_at
            job = self._overtaking(ticket)
        if job is not None:
            self._run(self._long, job)
        ticket.resumed = time.monotonic()
        ticket.paused += ticket.resumed - resumed_at

    def _overtaking(self, ticket: Ticket) -> Job[Any] | None:
        """Start a job that may overtake a long one, if there is any."""
        if len(self._long.running) > 1 or ticket.started is None or ticket.cancelled:
            return None
        left, worked = ticket.seconds_left(), time.monotonic() - ticket.started - ticket.paused
        for other in self._long.waiting:
            seconds = other.estimate.seconds
            if seconds * MIN_LENGTH_RATIO <= left and ticket.paused + seconds <= MAX_REST_RATIO * worked:
                return self._begin(self._long, other)
        return None

    def queue_position(self, ticket: Ticket) -> QueuePosition | None:
        """Return a job's position in the queue; None if it is finished."""
        with self._changed:
            for lane in self._lanes:
                if ticket in (tickets := lane.tickets):
                    place, order = tickets.index(ticket) + 1, lane.finishing_order()
                    left = sum(one.seconds_left() for one in order[: order.index(ticket) + 1])
                    short_work = self._short.seconds_left() if lane is self._long else 0.0
                    return QueuePosition(place, len(tickets), left + short_work)
        return None

    def _run(self, lane: _Lane, job: Job[Any]) -> None:
        ticket, future = job.ticket, job.future
        try:
            if ticket.cancelled:
                raise CancelledError("Cancelled.")
            result = job.work(ticket)
            ticket.record_duration()
            if isinstance(result, Continuation):
                ticket.tick(0)
        except BaseException as error:
            self._end(lane)
            future.set_exception(error)
            del job, future  # else the error would keep itself alive through its traceback
        else:
            if isinstance(result, Continuation):
                self._end(lane, replace(job, work=result.work), result.estimate)
            else:
                self._end(lane)
                future.set_result(result)

    def _end(self, lane: _Lane, rest: Job[Any] | None = None, estimate: Estimate | None = None) -> None:
        with self._changed:
            lane.running.pop()
            # its thread pool may be shut down
            cancelled = rest if rest is not None and rest.ticket.cancelled else None
            if rest is not None and estimate is not None and cancelled is None:
                self._enqueue(rest, estimate)
            self._start_next(lane)
            self._changed.notify_all()
        if cancelled is not None:
            cancelled.future.set_exception(CancelledError("Cancelled."))

    def drain(self) -> None:
        """Accept no more jobs, and return when all accepted ones are finished."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not any(lane.tickets for lane in self._lanes))

    def close(self, *, wait: bool = True) -> None:
        """Accept no more jobs, and cancel all others; with `wait`, return when nothing runs any more."""
        with self._changed:
            self._open = False
            unfinished = [ticket for lane in self._lanes for ticket in lane.tickets]
        for ticket in reversed(unfinished):  # waiting ones first, or they would start when another ends
            ticket.cancel()
        for lane in self._lanes:
            lane.pool.shutdown(wait)
