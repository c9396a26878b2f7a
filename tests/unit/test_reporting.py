"""Reports of a running attempt: never in the way, throttled, and no state lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.state import RunState
from physicsrunner.errors import ServerUnavailable
from physicsrunner.runner.reporting import Progress, Reporter
from physicsrunner.runner.reports import ReportSender
from physicsrunner.runner.stop import CANCELLED, LEASE_LOST, Clock, StopRequest
from physicsrunner.wire.messages import Report, ReportAnswer
from tests.support.wait import wait_until


class Server:
    """Keeps what it was told; answers when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Report]] = []
        self.times: list[float] = []
        self.open = threading.Event()
        self.open.set()
        self.failures = 0
        self.answer: dict[str, Any] = {}

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        self.open.wait(10.0)
        if self.failures > 0:
            self.failures -= 1
            raise ServerUnavailable("away")
        self.batches.append(list(reports))
        self.times.append(time.monotonic())
        return [ReportAnswer(report.run, report.attempt, **self.answer) for report in reports]

    @property
    def states(self) -> list[RunState]:
        return [report.state for batch in self.batches for report in batch if report.state]

    @property
    def latest(self) -> float | None:
        told = [r.progress for batch in self.batches for r in batch if r.progress is not None]
        return told[-1] if told else None


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """End the senders that a test made."""
    yield
    while SENDERS:
        SENDERS.pop().close()


SENDERS: list[ReportSender] = []


def sender(server: Server) -> ReportSender:
    """Return what sends to *server*."""
    SENDERS.append(ReportSender(cast("Uplink", server), random=lambda: 0.0))
    return SENDERS[-1]


def reporter(server: Server, seen: list[Progress] | None = None) -> tuple[Reporter, StopRequest]:
    """Return a reporter that sends to *server*."""
    stop = StopRequest()
    clock = Clock(time.time, time.sleep, lambda: 0.0)
    log = logging.getLogger("test")
    on_progress = None if seen is None else seen.append
    made = Reporter("r", 1, clock=clock, stop=stop, log=log, on_progress=on_progress)
    made.start(sender(server))
    return made, stop


def test_progress_is_throttled_and_the_latest_arrives() -> None:
    """A thousand changes are few reports, the last of which is the last change."""
    server, seen = Server(), list[Progress]()
    made, _ = reporter(server, seen)
    for step in range(1000):
        made.status(step / 10.0, f"step {step}")
    wait_until(lambda: server.latest == 99.9, on_timeout=lambda: server.batches)
    made.close()
    assert len(seen) == 1000  # the caller in the same process hears of each
    assert len(server.batches) < 30
    assert all(later - first > 0.08 for first, later in pairwise(server.times))


def test_a_step_that_main_py_names_is_the_stage() -> None:
    """In few words; the step that everybody has by default is none."""
    seen: list[Progress] = []
    made, _ = reporter(Server(), seen)
    made.stage("execute")
    made.status(1.0, "a", step="solver")
    made.status(2.0, "b", step="bem_solve")
    made.status(3.0, "c")
    made.status(4.0, "d", step="x" * 100)
    made.close()
    assert [said.stage for said in seen] == ["execute"] * 2 + ["bem_solve"] * 2 + ["x" * 32]


def test_a_server_that_hangs_holds_up_nobody() -> None:
    """Saying something returns at once, whatever the line does."""
    server = Server()
    server.open.clear()
    made, _ = reporter(server)
    for step in range(200):
        made.status(float(step % 100), None)
    made.state(RunState.RUNNING)
    assert server.batches == []  # nobody has waited until it answers
    server.open.set()
    made.close()


def test_a_state_is_kept_until_the_server_has_it() -> None:
    """Failures are tried again, and what is not sent is handed to whoever closes."""
    server = Server()
    server.failures = 2
    made, _ = reporter(server)
    made.state(RunState.RUNNING)
    wait_until(lambda: server.states == [RunState.RUNNING], on_timeout=lambda: server.batches)
    server.failures = 10**6
    made.state(RunState.PAUSED)
    made.status(50.0, "half")
    left = made.close()
    assert [report.state for report in left if report.state] == [RunState.PAUSED]


def test_answers_are_heeded() -> None:
    """A command cancels; a lost lease stops; the first reason counts."""
    server = Server()
    server.answer = {"commands": ["cancel"]}
    made, stop = reporter(server)
    made.stage("execute")
    wait_until(stop.asked)
    made.heed([], "lease_lost")
    made.close()
    assert stop.reason == CANCELLED
    other = StopRequest()
    made, other = reporter(Server())
    made.heed([], "lease_lost")
    made.close()
    assert other.reason == LEASE_LOST


def test_a_caller_that_raises_ends_nothing() -> None:
    """A fault in on_progress is logged, and the run goes on."""
    stop = StopRequest()
    clock = Clock(time.time, time.sleep, lambda: 0.0)

    def bad(_: Progress) -> None:
        raise RuntimeError("not ours")

    made = Reporter("r", 1, clock=clock, stop=stop, log=logging.getLogger("test"), on_progress=bad)
    made.stage("init")
    assert [report.stage for report in made.close()] == ["init"]
