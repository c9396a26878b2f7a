"""Programs that wait for their slot at an agent: one after the other, and never too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.agent.places import AgentPlace, Places
from physicsrunner.agent.resources import Machine
from physicsrunner.core.state import RunState
from physicsrunner.runner.stages import execute
from physicsrunner.wire.messages import Resources
from tests.support.agents import Fleet
from tests.support.crowd import Crowd, crowd_in
from tests.support.processes import Processes
from tests.support.wait import wait_until


class OneSlot:
    """Attempts of a machine that has room for one program."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.places = Places(Machine(Resources(1.0), 1), time.monotonic, lambda: None)

    def enter(self) -> AgentPlace:
        return self.places.enter(Resources())

    def has_log(self, run: str) -> bool:
        return (self.crowd.root / run / "1/outputs/logs/main.log").exists()


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[OneSlot]:
    with crowd_in(tmp_path) as crowd:
        yield OneSlot(crowd)


def test_the_next_program_runs_while_files_are_on_their_way(
    slot: OneSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts when the one before has ended, however slowly the server takes its files."""
    monkeypatch.setattr(execute, "PATIENCE_S", 60.0)  # a busy machine takes its time
    taking = threading.Event()
    send = slot.crowd.server.send
    monkeypatch.setattr(slot.crowd.server, "send", lambda batch: taking.wait(60.0) and send(batch))
    first = slot.crowd.begin("first", place=slot.enter())
    slot.crowd.begun("first")
    second = slot.crowd.begin("second", place=slot.enter())
    wait_until(lambda: ("second", 1) in slot.crowd.station.attempts)
    (slot.crowd.root / "first/1/inputs/go").touch()
    slot.crowd.begun("second")
    assert not first.done()
    taking.set()
    assert first.result(30.0).delivered
    (slot.crowd.root / "second/1/inputs/go").touch()
    assert second.result(30.0).delivered


def test_who_waits_too_long_goes_back_to_the_queue(
    slot: OneSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it was started, and the server hears that another may carry it out."""
    monkeypatch.setattr(execute, "PATIENCE_S", 0.2)
    slot.crowd.begin("first", place=slot.enter())
    slot.crowd.begun("first")
    result = slot.crowd.begin("second", place=slot.enter()).result(30.0)
    assert result.state is RunState.RETRYING
    assert result.delivered
    assert not slot.has_log("second")
    assert slot.crowd.server.reports[-1].hand_back
    assert RunState.RUNNING not in slot.crowd.server.states("second")


def test_who_waits_can_be_cancelled(slot: OneSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once, without a program, and those behind it are not held up."""
    monkeypatch.setattr(execute, "PATIENCE_S", 60.0)
    first = slot.crowd.begin("first", place=slot.enter())
    slot.crowd.begun("first")
    place = slot.enter()
    second = slot.crowd.begin("second", place=place)
    wait_until(lambda: ("second", 1) in slot.crowd.station.attempts)
    slot.crowd.stops["second"].ask("cancelled")
    assert second.result(30.0).state is RunState.CANCELLED
    assert not slot.has_log("second")
    place.over()
    third = slot.crowd.begin("third", place=slot.enter())
    (slot.crowd.root / "first/1/inputs/go").touch()
    assert first.result(30.0).delivered
    slot.crowd.begun("third")
    (slot.crowd.root / "third/1/inputs/go").touch()
    assert third.result(30.0).delivered


SHORT = """
import os, sys, time
from pathlib import Path
inside = Path({inside!r})
mine = inside / str(os.getpid())
mine.touch()
with open({seen!r}, "a") as seen:
    seen.write(f"{{len(list(inside.iterdir()))}}\\n")
time.sleep(0.08)
mine.unlink()
"""


def test_short_runs_are_leased_ahead_and_never_run_too_many_at_once(
    processes: Processes, tmp_path: Path
) -> None:
    """Sixty runs of one core each at two slots and two cores: each is carried out, and once."""
    fleet = Fleet(processes, lease_s=4)
    inside, seen = tmp_path / "inside", tmp_path / "seen"
    inside.mkdir()
    main = SHORT.format(inside=str(inside), seen=str(seen))
    runs = [fleet.submit(f"r{number}", main=main) for number in range(60)]
    fleet.agent("here", "--slots", "2", "--cores", "2")
    ended = [fleet.wait(run, "completed") for run in runs]
    counts = [int(line) for line in seen.read_text().split()]
    assert len(counts) == len(runs)
    assert max(counts) == 2
    assert {(run["retry_count"], run["lost_count"]) for run in ended} == {(0, 0)}
    # Where the machine stood still for two seconds, what waited goes back: not more than that.
    assert sum(run["attempt"] - 1 for run in ended) <= 6
