"""The queue: one after the other, told how far it is, stopped when asked, full when it is full."""

from __future__ import annotations

import threading

import pytest

from satseg.errors import BusyError, CancelledError
from satseg.serving.jobs import Jobs, Ticket


def test_jobs_run_in_order_and_one_at_a_time() -> None:
    jobs, seen, running = Jobs(20), [], threading.Lock()

    def work(number: int) -> int:
        assert running.acquire(blocking=False)
        seen.append(number)
        running.release()
        return number * 2

    made = [jobs.submit(lambda ticket, n=n: work(n)) for n in range(20)]
    assert [job.result() for job in made] == [2 * n for n in range(20)] and seen == list(range(20))
    jobs.close()


def test_a_full_queue_refuses_and_takes_again() -> None:
    jobs, go = Jobs(2), threading.Event()
    made = [jobs.submit(lambda ticket: go.wait(30)) for _ in range(3)]
    with pytest.raises(BusyError, match="Too many images are waiting"):
        jobs.submit(lambda ticket: None)
    go.set()
    assert all(job.result() for job in made)
    assert jobs.submit(lambda ticket: "taken").result() == "taken"
    jobs.close()


def test_a_job_is_cancelled_at_its_next_step_or_before_it_starts() -> None:
    jobs, started, go = Jobs(2), threading.Event(), threading.Event()

    def work(ticket: Ticket) -> None:
        ticket.total = 4
        ticket.tick()
        started.set()
        go.wait(30)
        ticket.tick()

    first, second = jobs.submit(work), jobs.submit(work)
    started.wait(30)
    assert first.ticket.share == 0.25 and first.ticket.started and not second.ticket.started
    assert not first.wait(0.01)
    first.ticket.cancel()
    second.ticket.cancel()
    with pytest.raises(CancelledError):
        second.result()  # without its turn
    assert jobs.num_unfinished == 1
    later = [jobs.submit(lambda ticket: "taken") for _ in range(2)]
    go.set()
    with pytest.raises(CancelledError):
        first.result()
    assert [job.result() for job in later] == ["taken"] * 2
    assert first.ticket.finished == 1 and not second.ticket.started
    jobs.close()


def test_closing_stops_what_waits_and_an_error_is_the_jobs_own() -> None:
    jobs, started = Jobs(2), threading.Event()

    def endless(ticket: Ticket) -> None:
        started.set()
        while True:
            ticket.tick()

    def broken(ticket: Ticket) -> None:
        raise ValueError("broken")

    failed = jobs.submit(broken)
    with pytest.raises(ValueError, match="broken"):
        failed.result()
    running = jobs.submit(endless)
    started.wait(30)
    jobs.close()
    with pytest.raises(CancelledError):
        running.result()
