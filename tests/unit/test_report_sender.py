"""One sender for the reports of many attempts: joined, in order, and none lost with another's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, PhysicsRunnerError, ServerUnavailable
from physicsrunner.runner.reporting import Reporter
from physicsrunner.runner.reports import MOST, ReportSender
from physicsrunner.runner.stop import Clock, StopRequest
from physicsrunner.wire.messages import Report, ReportAnswer
from tests.support.wait import wait_until


class Server:
    """Takes reports when it is let; refuses requests that name a bad run."""

    def __init__(self) -> None:
        self.batches: list[list[Report]] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.away = 0
        self.bad: set[str] = set()

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        self.asked.set()
        assert self.open.wait(10.0)
        if self.away:
            self.away -= 1
            raise ServerUnavailable("away")
        if self.bad & {report.run for report in reports}:
            raise InvalidRequest("one is bad")
        self.batches.append(list(reports))
        return [ReportAnswer(report.run, report.attempt) for report in reports]

    def told(self, run: str) -> list[Any]:
        """Return what was said of *run*, in order."""
        said = [report for batch in self.batches for report in batch if report.run == run]
        return [report.state or report.label for report in said]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sender(server: Server) -> Iterator[ReportSender]:
    made = ReportSender(cast("Uplink", server), random=lambda: 0.0)
    yield made
    server.open.set()
    made.close()


def reporter(run: str, sender: ReportSender) -> tuple[Reporter, StopRequest]:
    """Return a reporter of *run* that sends by *sender*."""
    stop = StopRequest()
    clock = Clock(time.time, time.sleep, lambda: 0.0)
    made = Reporter(run, 1, clock=clock, stop=stop, log=logging.getLogger("test"))
    made.start(sender)
    return made, stop


def held(server: Server, sender: ReportSender) -> None:
    """Have the server hang on a first request."""
    server.open.clear()
    first, _ = reporter("first", sender)
    first.stage("init")
    assert server.asked.wait(10.0)


def test_one_request_carries_what_all_have_to_say(server: Server, sender: ReportSender) -> None:
    """The states of each in order, and of what changes all the time the latest."""
    held(server, sender)
    made = [reporter(f"r{number}", sender)[0] for number in range(200)]
    for each in made:
        each.state(RunState.RUNNING)
        for step in range(5):
            each.status(float(step), f"step {step}")
        each.state(RunState.PAUSED)
    server.open.set()
    wait_until(lambda: server.told("r199"), on_timeout=lambda: server.batches)
    for number in range(200):
        assert server.told(f"r{number}") == [RunState.RUNNING, RunState.PAUSED, "step 4"]
    assert len(server.batches) <= 1 + -(-600 // MOST)
    assert all(len(batch) <= MOST for batch in server.batches)


def test_who_was_forgotten_keeps_nobody_from_being_heard(
    server: Server, sender: ReportSender
) -> None:
    """The time of one that waited and has gone is not waited for when the next one speaks."""
    gone, _ = reporter("gone", sender)
    sender.wake(gone, 0.05)
    gone.close()
    late = threading.Event()
    assert not late.wait(0.2)  # the sender has found nobody at that time
    stays, _ = reporter("stays", sender)
    stays.state(RunState.RUNNING)
    wait_until(lambda: server.told("stays"), timeout=10.0)


def test_ends_are_joined_and_answered_each(server: Server, sender: ReportSender) -> None:
    """Who asks is answered with its own answers, whoever else asks at that time."""
    held(server, sender)

    def ask(number: int) -> Sequence[ReportAnswer]:
        run = f"r{number}"
        said = [Report(run, 1, state=RunState.RUNNING), Report(run, 1, state=RunState.FAILED)]
        return sender.ask(said)

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, number) for number in range(20)]
        server.open.set()
        for number, answers in enumerate(asked):
            assert [answer.run for answer in answers.result(10.0)] == [f"r{number}"] * 2
    assert len(server.batches) < 20


def test_what_is_not_taken_now_is_sent_again(server: Server, sender: ReportSender) -> None:
    """In order, and once; who asked is told at once and decides itself."""
    server.away = 3
    made, _ = reporter("r", sender)
    made.state(RunState.RUNNING)
    wait_until(lambda: server.away < 3)
    made.state(RunState.PAUSED)
    wait_until(lambda: server.told("r") == [RunState.RUNNING, RunState.PAUSED])
    server.away = 1
    with pytest.raises(ServerUnavailable):
        sender.ask([Report("other", 1, state=RunState.FAILED)])


def test_the_fault_of_one_is_not_the_others(server: Server, sender: ReportSender) -> None:
    """A request that is refused for one attempt is made again for each alone."""
    held(server, sender)
    server.bad.add("bad")
    good, bad = reporter("good", sender)[0], reporter("bad", sender)[0]
    good.state(RunState.RUNNING)
    bad.state(RunState.RUNNING)
    server.open.set()
    wait_until(lambda: server.told("good"), on_timeout=lambda: server.batches)
    assert server.told("bad") == []
    with pytest.raises(InvalidRequest):
        sender.ask([Report("bad", 1, state=RunState.FAILED)])


def test_a_fenced_attempt_says_nothing_more(server: Server, sender: ReportSender) -> None:
    """Neither what waits nor what comes: its state is another's now."""
    held(server, sender)
    made, stop = reporter("r", sender)
    made.state(RunState.RUNNING)
    made.heed([], "lease_lost")
    made.state(RunState.PAUSED)
    made.status(50.0, "half")
    server.open.set()
    other, _ = reporter("other", sender)
    other.state(RunState.RUNNING)
    wait_until(lambda: server.told("other"))
    assert server.told("r") == []
    assert made.close() == []
    assert stop.reason == "lease_lost"


def test_pause_and_resume_are_heeded(sender: ReportSender) -> None:
    """The latest counts; a stop comes before a pause."""
    made, stop = reporter("r", sender)
    made.heed(["pause"], None)
    assert stop.pausing
    made.heed(["resume"], None)
    assert not stop.pausing
    made.heed(["cancel", "pause"], None)
    assert not stop.pausing
    assert stop.asked()


def test_a_closed_sender_answers_who_asks(server: Server) -> None:
    """Nobody waits for ever."""
    made = ReportSender(cast("Uplink", server), random=lambda: 0.0)
    made.close()
    with pytest.raises(PhysicsRunnerError):
        made.ask([Report("r", 1, state=RunState.FAILED)])


def test_the_first_words_of_many_wait_for_each_other_and_an_end_for_nobody(
    server: Server, sender: ReportSender
) -> None:
    """Who begins with a delay is heard with its end, in one request, and not before."""
    clock = Clock(lambda: 1000.0, time.sleep, lambda: 0.0)
    made = Reporter("r", 1, clock=clock, stop=StopRequest(), log=logging.getLogger("test"))
    made.start(sender, 60.0)
    made.stage("init")
    made.state(RunState.RUNNING)
    assert made.heard is None
    (answer,) = sender.ask([Report("other", 1, state=RunState.COMPLETED)])
    assert answer.run == "other"
    assert [report.run for report in server.batches[0]][-1] == "other"
    assert server.told("r")[:1] == [RunState.RUNNING]
    assert len(server.batches) == 1
