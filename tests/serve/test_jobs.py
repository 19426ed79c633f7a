"""The job queue: order, limits, priorities, progress, cancelling and closing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from satseg.errors import BusyError, CancelledError, ShuttingDownError
from satseg.serve.estimates import MAP, CostModel, Estimate
from satseg.serve.jobs import Jobs
from satseg.serve.page import fragments
from satseg.serve.tickets import Continuation, Job, Ticket

SHORT, LONG = Estimate(CostModel(), MAP, 1e4), Estimate(CostModel(), MAP, 1e8)


def test_jobs_run_one_at_a_time_in_order() -> None:
    jobs, seen, running = Jobs(20), [], threading.Lock()

    def work(number: int) -> int:
        assert running.acquire(blocking=False)
        seen.append(number)
        running.release()
        return number * 2

    made = [jobs.submit(lambda ticket, n=n: work(n)) for n in range(20)]
    assert [job.result() for job in made] == [2 * n for n in range(20)] and seen == list(range(20))
    jobs.close()


def test_a_full_queue_refuses_jobs_until_there_is_room() -> None:
    jobs, go = Jobs(2), threading.Event()
    made = [jobs.submit(lambda ticket: go.wait(30), estimate) for estimate in (SHORT, LONG, SHORT)]
    with pytest.raises(BusyError, match="Too many images are waiting; try again in about"):
        jobs.submit(lambda ticket: None)
    go.set()
    assert all(job.result() for job in made)
    assert jobs.submit(lambda ticket: "taken").result() == "taken"
    jobs.close()


def test_immediate_requests_are_refused_with_a_waiting_time_beyond_the_limit_of_queued_work() -> None:
    jobs, go, costs = Jobs(0, most_seconds=10), threading.Event(), CostModel()
    four = Estimate(costs, MAP, 4e6)
    costs.calibrate(10**6, 1.0)
    assert four.seconds == pytest.approx(4, abs=0.2) and not four.is_small

    def ask(estimate: Estimate) -> Job[bool]:
        return jobs.submit(lambda ticket: go.wait(30), estimate, patient=False)

    made = [ask(four) for _ in range(3)]  # one runs, and 8 s of work are queued
    with pytest.raises(BusyError) as refused:
        ask(four)
    assert refused.value.seconds == pytest.approx(12.3, abs=0.5)
    made += [ask(Estimate(costs, MAP, 1e5)) for _ in range(20)]  # short jobs do not count
    jobs.submit(lambda ticket: go.wait(30), four)  # neither do patient ones
    for job in made[1:3]:
        job.ticket.cancel()
    made[1:3] = [ask(Estimate(costs, MAP, 3e7))]  # one may always be queued
    go.set()
    assert all(job.result() for job in made)
    jobs.close()


def test_short_jobs_interrupt_a_long_one_which_then_continues() -> None:
    jobs, seen, started = Jobs(20), [], threading.Event()

    def long(ticket: Ticket) -> str:
        ticket.total = 400
        for _ in range(400):
            started.set()
            time.sleep(0.001)
            ticket.tick()
        return seen.append("long") or "long"

    first = jobs.submit(long, LONG)
    assert started.wait(30)
    short = [jobs.submit(lambda ticket, n=n: seen.append(n), SHORT) for n in range(5)]
    for job in short:
        job.result()
    assert seen == list(range(5)) and not first.future.done()
    assert first.result() == "long"
    jobs.close()


def test_a_much_shorter_job_interrupts_a_long_one_between_steps_on_the_same_thread() -> None:
    jobs, started, go, seen = Jobs(20), threading.Event(), threading.Event(), []
    middle = Estimate(LONG.costs, MAP, 1.1e6)
    assert not middle.is_small

    def work(name: str, steps: int, ticket: Ticket) -> str:
        ticket.total = steps
        for number in range(steps):
            started.set()
            if name == "long" and number == 0:
                go.wait(30)
                time.sleep(middle.seconds / 2)  # long enough for the shorter job to take precedence
            seen.append((name, threading.get_ident()))
            ticket.tick()
        return name

    first = jobs.submit(partial(work, "long", 50), LONG)
    started.wait(30)
    second, alike = jobs.submit(partial(work, "middle", 3), middle), jobs.submit(partial(work, "alike", 3), LONG)
    assert [job.ticket.queue_position.place for job in (first, second, alike)] == [1, 2, 3]
    go.set()
    assert [job.result() for job in (first, second, alike)] == ["long", "middle", "alike"]
    names = [name for name, _ in seen]
    assert names == ["long", "middle", "middle", "middle", *["long"] * 49, *["alike"] * 3]
    assert len({thread for _, thread in seen}) == 1
    jobs.close()


def test_a_long_job_finishes_despite_a_constant_stream_of_short_ones() -> None:
    jobs, over = Jobs(20), threading.Event()

    def long(ticket: Ticket) -> bool:
        ticket.total = 30
        for _ in range(30):
            time.sleep(0.002)
            ticket.tick()
        return True

    def again(ticket: Ticket) -> None:
        time.sleep(0.001)
        if not over.is_set():
            jobs.submit(again, SHORT, force=True)

    for _ in range(3):  # so that one is always queued or running
        jobs.submit(again, SHORT)
    found = jobs.submit(long, LONG)
    assert found.result() and found.ticket.paused > 0
    over.set()
    jobs.drain()
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
    assert first.ticket.share == 0.25
    assert first.ticket.queue_position[:2] == (1, 2) and second.ticket.queue_position[:2] == (2, 2)
    assert not first.wait(0.01)
    first.ticket.cancel()
    second.ticket.cancel()
    with pytest.raises(CancelledError):
        second.result()  # without waiting for its turn
    assert jobs.num_unfinished == 1 and second.ticket.queue_position is None
    later = [jobs.submit(lambda ticket: "taken") for _ in range(2)]
    go.set()
    with pytest.raises(CancelledError):
        first.result()
    assert [job.result() for job in later] == ["taken"] * 2
    assert first.ticket.finished == 1 and second.ticket.finished == 0
    jobs.close()


def test_closing_cancels_all_jobs_and_errors_are_raised_to_their_owner() -> None:
    jobs, started = Jobs(3), threading.Barrier(3)

    def endless(ticket: Ticket) -> None:
        started.wait(30)
        while True:
            time.sleep(0.001)
            ticket.tick()

    def broken(ticket: Ticket) -> None:
        raise ValueError("broken")

    failed = jobs.submit(broken)
    with pytest.raises(ValueError, match="broken"):
        failed.result()
    made = [jobs.submit(endless, estimate) for estimate in (LONG, SHORT, SHORT)]
    started.wait(30)
    jobs.close()
    for job in made:
        with pytest.raises(CancelledError):
            job.result()
    with pytest.raises(ShuttingDownError):
        jobs.submit(broken, force=True)


def test_a_job_continues_in_the_lane_of_its_updated_estimate() -> None:
    jobs, go = Jobs(5), threading.Event()

    def look(ticket: Ticket) -> Continuation[str]:
        return Continuation(lambda ticket: go.wait(30) and f"long: {ticket.is_long}", LONG)

    found = jobs.submit(look, SHORT)
    assert (
        jobs.submit(lambda ticket: ticket.is_long, SHORT).result() is False
    )  # the continuation does not block the short lane
    drained = threading.Thread(target=jobs.drain)
    drained.start()
    go.set()
    assert found.result() == "long: True"
    drained.join(30)
    jobs.close()


def test_the_page_shows_queue_position_remaining_time_and_progress() -> None:
    jobs, go, costs = Jobs(5), threading.Event(), CostModel()
    costs.calibrate(10**6, 1.0)

    def work(ticket: Ticket) -> None:
        ticket.total = 4
        ticket.tick()
        go.wait(30)

    made = [jobs.submit(work, Estimate(costs, MAP, 2e7)) for _ in range(3)]
    while not made[0].ticket.finished:
        time.sleep(0.01)
    shown = [fragments.progress(job.ticket, "Segmenting <a>.tif") for job in made]
    assert "Segmenting &lt;a&gt;.tif … 25 %, done in about 1 s<" in shown[0]
    assert "Waiting for its turn: 2nd of 3, done in about 25 s …" in shown[1]
    assert "Waiting for its turn: 3rd of 3, done in about 45 s …" in shown[2]
    go.set()
    jobs.close()


def test_costs_are_learned_separately_by_size() -> None:
    costs = CostModel()
    costs.calibrate(512 * 512, 0.5)
    for _ in range(40):
        costs.learn(MAP, 64 * 64, 0.31)  # mostly a constant overhead
    for _ in range(40):
        costs.learn(MAP, 6000 * 6000, 0.3 + 36 * 2.0)
    assert costs.seconds(MAP, 64 * 64) == pytest.approx(0.31, rel=0.1)
    assert costs.seconds(MAP, 6000 * 6000) == pytest.approx(72.3, rel=0.1)
    assert costs.estimate(MAP, 512 * 512).is_small and not costs.estimate(MAP, 2048 * 2048).is_small


class QueueMachine(RuleBasedStateMachine):
    """Submits, cancels and releases jobs in random order; each job blocks until it is released."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(4, most_seconds=1e9)
        self.gates: dict[Ticket, Future[bool]] = {}
        self.lanes: dict[bool, list[Ticket]] = {False: [], True: []}  # unfinished ones, in order
        self.started: dict[bool, list[Ticket]] = {False: [], True: []}
        self.given: dict[bool, list[Ticket]] = {False: [], True: []}

    @rule(target=made, is_long=st.booleans(), patient=st.booleans())
    def submit(self, is_long: bool, patient: bool) -> object:
        known: Future[Future[bool]] = Future()

        def work(ticket: Ticket) -> str:
            self.started[is_long].append(ticket)
            known.result(30).result(30)
            ticket.tick()
            return "done"

        num_patient = sum(ticket.patient for lane in self.lanes.values() for ticket in lane)
        try:
            job = self.jobs.submit(work, LONG if is_long else SHORT, patient=patient)
        except BusyError as error:
            assert patient and num_patient == 5 and error.seconds > 0
            return None
        assert not patient or num_patient < 5
        gate: Future[bool] = Future()
        self.gates[job.ticket] = gate
        self.lanes[is_long].append(job.ticket)
        self.given[is_long].append(job.ticket)
        known.set_result(gate)
        return is_long, job

    @rule(one=consumes(made))
    def cancel(self, one: object) -> None:
        if one is None:
            return
        is_long, job = one
        job.ticket.cancel()
        if self.lanes[is_long] and self.lanes[is_long][0] is job.ticket:  # it runs until its next step
            self.gates[job.ticket].set_result(True)
        elif job.ticket not in self.lanes[is_long]:
            assert job.result() == "done"
            return
        with pytest.raises(CancelledError):
            job.future.result(30)
        if self.lanes[is_long][0] is not job.ticket:
            self.given[is_long].remove(job.ticket)  # it never starts
        self.lanes[is_long].remove(job.ticket)

    @rule(is_long=st.booleans())
    def release(self, is_long: bool) -> None:
        if self.lanes[is_long]:
            ticket = self.lanes[is_long].pop(0)
            self.gates[ticket].set_result(True)
            while ticket.queue_position is not None:
                time.sleep(0.001)

    @invariant()
    def every_job_has_a_queue_position(self) -> None:
        for lane in self.lanes.values():
            positions = [ticket.queue_position for ticket in lane]
            assert [position[:2] for position in positions] == [(i + 1, len(lane)) for i in range(len(lane))]
            left = [position.seconds_left for position in positions]
            assert left == sorted(left) and all(one > 0 for one in left)
        assert self.jobs.num_unfinished == sum(map(len, self.lanes.values()))

    def teardown(self) -> None:
        drained = threading.Thread(target=self.jobs.drain)
        drained.start()
        for gate in self.gates.values():
            if not gate.done():
                gate.set_result(True)
        drained.join(30)
        assert not drained.is_alive()
        self.jobs.close()
        for is_long in (False, True):
            ran = list(self.started[is_long])
            assert len(set(ran)) == len(ran)
            assert [t for t in self.given[is_long] if t in set(ran)] == ran  # first come, first served
            assert all(t in set(ran) or t.cancelled for t in self.given[is_long])


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
