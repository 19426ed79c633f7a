"""The queue for all that is computed: short jobs pass long ones, and of each kind one runs after the other."""

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
# A long job rests at its steps while short ones wait or run, but not longer than so many times what the step took:
# under whatever traffic it has a quarter of the time.
MAX_REST_RATIO = 3.0
MIN_LENGTH_RATIO = 4  # times as long as another a job has left that lets it pass
NICE_INCREMENT = 2  # of long jobs' threads; on a machine busy with other work, more would starve them


def _be_nice() -> None:
    """Let short jobs have the processor first; threads that this one starts inherit it."""
    if sys.platform == "linux":  # elsewhere it would be for the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE_INCREMENT)


@dataclass
class _Lane:
    """Jobs that run one after the other, in the order in which they came."""

    pool: ThreadPoolExecutor
    waiting: dict[Ticket, Job[Any]] = field(default_factory=dict)
    running: list[Ticket] = field(default_factory=list)  # the last one does; those before it let it pass

    @property
    def tickets(self) -> list[Ticket]:
        """Those that run or wait, in the order in which they came."""
        return sorted([*self.running, *self.waiting], key=lambda ticket: ticket.number)

    def seconds_left(self) -> float:
        return sum(ticket.seconds_left() for ticket in self.tickets)

    def turns(self) -> list[Ticket]:
        """Return those that run or wait, in the order in which they will be finished, as far as is known."""
        return [*reversed(self.running), *self.waiting]


class Jobs:
    """Runs jobs in two threads, one for those that are soon done and one for all others.

    A short job waits for short ones alone. A long one rests at its steps while they run, and lets one pass that waits
    behind it and is much shorter.

    So the models are used by two threads at most, and memory is needed for one job of each kind. A job's estimate says
    of which it is.

    Args:
        most_waiting: Jobs of patient owners that may wait beside the one that runs; of all others, so many in a lane.
        most_seconds: Work of those others that may wait in a lane, however many they are.
    """

    def __init__(self, most_waiting: int, most_seconds: float = 10.0) -> None:
        self._most, self._most_seconds = most_waiting + 1, most_seconds
        self._short = _Lane(ThreadPoolExecutor(1, "short"))
        self._long = _Lane(ThreadPoolExecutor(1, "long", _be_nice))
        self._lanes = (self._short, self._long)
        self._changed = threading.Condition()
        self._open = True
        self._numbers = itertools.count()

    @property
    def capacity(self) -> int:
        """Jobs of patient owners that may wait or run."""
        return self._most

    @property
    def num_unfinished(self) -> int:
        """Jobs that wait or run."""
        with self._changed:
            return sum(len(lane.tickets) for lane in self._lanes)

    @property
    def is_open(self) -> bool:
        """Whether jobs are taken."""
        return self._open

    def seconds_left(self) -> float:
        """Return for how long the jobs that wait or run will keep the server busy."""
        with self._changed:
            return sum(lane.seconds_left() for lane in self._lanes)

    def retry_after(self) -> int:
        """Return in how many seconds it makes sense to ask again."""
        return max(1, math.ceil(self.seconds_left()))

    def check(self, *, patient: bool = False) -> None:
        """See whether a job would be taken, before it is known how long it takes.

        Args:
            patient: Whether its owner waits as long as it takes.

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
            is_empty = not lane.running or (not waiting and self._most_seconds > 0)  # however long it takes
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
        """Take a job.

        Args:
            work: What to do.
            estimate: What it will take; as good as nothing by default.
            patient: Whether its owner is told its place, and waits as long as it takes.
            force: Take it though too many wait: it was accepted before.

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
            future.set_running_or_notify_cancel()  # it is cancelled by its ticket alone
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
        """Take a job that waits out of the queue; one that rests goes on, to its end."""
        with self._changed:
            job = next((lane.waiting.pop(ticket) for lane in self._lanes if ticket in lane.waiting), None)
            self._changed.notify_all()
        if job is not None:
            job.future.set_exception(CancelledError("Cancelled."))

    def yield_turn(self, ticket: Ticket) -> None:
        """Have a long job rest while short ones wait or run, and let one pass that is much shorter, within bounds."""
        with self._changed:
            if ticket not in self._long.running or ticket.started is None:
                return
            begun = time.monotonic()
            worked = begun - max(ticket.started, ticket.resumed)
            while self._short.running and not ticket.cancelled:
                if not self._changed.wait(max(begun + MAX_REST_RATIO * worked - time.monotonic(), 0.0)):
                    break
            rested = time.monotonic()
            ticket.paused += rested - begun
            job = self._passing(ticket)
        if job is not None:
            self._run(self._long, job)
        ticket.resumed = time.monotonic()
        ticket.paused += ticket.resumed - rested

    def _passing(self, ticket: Ticket) -> Job[Any] | None:
        """Begin a job that a long one lets pass, if there is one."""
        if len(self._long.running) > 1 or ticket.started is None or ticket.cancelled:
            return None
        left, worked = ticket.seconds_left(), time.monotonic() - ticket.started - ticket.paused
        for other in self._long.waiting:
            seconds = other.estimate.seconds
            if seconds * MIN_LENGTH_RATIO <= left and ticket.paused + seconds <= MAX_REST_RATIO * worked:
                return self._begin(self._long, other)
        return None

    def queue_position(self, ticket: Ticket) -> QueuePosition | None:
        """Return where a job stands; None where it is finished."""
        with self._changed:
            for lane in self._lanes:
                if ticket in (tickets := lane.tickets):
                    place, turns = tickets.index(ticket) + 1, lane.turns()
                    left = sum(one.seconds_left() for one in turns[: turns.index(ticket) + 1])
                    passing = self._short.seconds_left() if lane is self._long else 0.0
                    return QueuePosition(place, len(tickets), left + passing)
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
            del job, future  # else the error would hold itself by its traceback
        else:
            if isinstance(result, Continuation):
                self._end(lane, replace(job, work=result.work), result.estimate)
            else:
                self._end(lane)
                future.set_result(result)

    def _end(self, lane: _Lane, onward: Job[Any] | None = None, estimate: Estimate | None = None) -> None:
        with self._changed:
            lane.running.pop()
            cancelled = onward if onward is not None and onward.ticket.cancelled else None  # its thread may be closed
            if onward is not None and estimate is not None and cancelled is None:
                self._enqueue(onward, estimate)
            self._start_next(lane)
            self._changed.notify_all()
        if cancelled is not None:
            cancelled.future.set_exception(CancelledError("Cancelled."))

    def drain(self) -> None:
        """Take no more, and return when all that was taken is finished."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not any(lane.tickets for lane in self._lanes))

    def close(self, *, wait: bool = True) -> None:
        """Take no more, and stop what waits or runs; where it is waited for, nothing runs afterwards."""
        with self._changed:
            self._open = False
            unfinished = [ticket for lane in self._lanes for ticket in lane.tickets]
        for ticket in reversed(unfinished):  # those that wait first, or the next would start when one ends
            ticket.cancel()
        for lane in self._lanes:
            lane.pool.shutdown(wait)
