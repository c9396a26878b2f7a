"""One request for each of several runs: some at a time, told in their order."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from physicsrunner.cli.each import AT_ONCE, each_run
from physicsrunner.cli.invocation import Invocation
from physicsrunner.errors import Conflict, ServerUnavailable

RUNS = ["1-40"]
TIMEOUT_S = 30.0


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """What requests wait for that are never answered; set at the end."""
    event = threading.Event()
    yield event
    event.set()


def called(*, as_json: bool = False) -> Invocation:
    return Invocation(as_json=as_json, host=None, debug=False)


def told(answer: dict[str, Any]) -> str:
    return str(answer["status"])


def test_some_are_asked_for_at_the_same_time(capsys: pytest.CaptureFixture[str]) -> None:
    """None of eight is answered before all are asked for, and the first is answered last."""
    together = threading.Barrier(AT_ONCE)
    answered = threading.Semaphore(0)

    def ask(run: str) -> dict[str, Any]:
        together.wait(TIMEOUT_S)
        if run == "1":
            for _ in range(AT_ONCE - 1):
                assert answered.acquire(timeout=TIMEOUT_S)
        answered.release()
        return {"status": f"done with {run}"}

    assert each_run(called(), RUNS, ask, told) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"run {n}: done with {n}" for n in range(1, 41)]


def test_where_the_order_counts_each_waits_for_the_one_before() -> None:
    """No request is begun before what became of the last one was told."""
    before: list[int] = []

    def ask(run: str) -> dict[str, Any]:
        return {"run": run, "before": len(before)}

    def note(answer: dict[str, Any]) -> str:
        assert answer == {"run": str(len(before) + 1), "before": len(before)}
        before.append(len(before))
        return "made"

    assert each_run(called(), RUNS, ask, note, at_once=1) == 0
    assert len(before) == 40


def test_a_refusal_is_said_and_keeps_no_other_from_its_turn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each has its place among the answers; the exit code is that of the mistake."""

    def ask(run: str) -> dict[str, Any]:
        if int(run) % 3 == 0:
            raise Conflict(f"run {run} goes on")
        return {"run": run, "status": "done"}

    assert each_run(called(as_json=True), RUNS, ask, told) == Conflict.exit_code
    found = json.loads(capsys.readouterr().out)["data"]
    assert [one["run"] for one in found] == [str(n) for n in range(1, 41)]
    assert [one["run"] for one in found if "error" in one] == [str(n) for n in range(3, 41, 3)]


def test_a_server_that_is_gone_ends_it_at_once(over: threading.Event) -> None:
    """Those under way are not waited for, and no other is begun."""
    asked: list[str] = []

    def ask(run: str) -> dict[str, Any]:
        asked.append(run)
        if run == "2":
            raise ServerUnavailable("gone")
        if run != "1":
            over.wait(TIMEOUT_S)
        return {"status": "done"}

    with pytest.raises(ServerUnavailable, match="gone"):
        each_run(called(), RUNS, ask, told)
    assert not over.is_set()
    assert len(asked) <= AT_ONCE + 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C means what it means in a program of its own: a worker of pytest-xdist ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_waits_for_no_answer(over: threading.Event) -> None:
    """It ends while requests are under way, and no other is begun."""
    together = threading.Barrier(AT_ONCE)
    asked: list[str] = []

    def ask(run: str) -> dict[str, Any]:
        asked.append(run)
        together.wait(TIMEOUT_S)
        if run == "1":
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
        over.wait(TIMEOUT_S)
        return {"status": "done"}

    with pytest.raises(KeyboardInterrupt):
        each_run(called(), RUNS, ask, told)
    waiting = [one for one in threading.enumerate() if one.name.startswith("each-")]
    assert {one.daemon for one in waiting} == {True}  # the end of the program waits for no other
    over.set()
    for thread in waiting:
        thread.join(TIMEOUT_S)
    assert len(asked) == AT_ONCE
