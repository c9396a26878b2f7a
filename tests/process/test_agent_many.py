"""Many runs at once on one agent: resources, labels, and what is asked of one among many."""

from __future__ import annotations

import json
import stat

import pytest

from tests.support.agents import Fleet, lives, stopped
from tests.support.processes import Processes
from tests.support.wait import wait_until


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server without agents."""
    return Fleet(processes, lease_s=4)


def test_many_at_once_within_slots_and_resources(fleet: Fleet) -> None:
    """Four slots and four cores carry two runs of one core and one of two; the rest waits."""
    names = ["a", "b", "c", "d"]
    runs = {
        name: fleet.submit(name, needs={"cpu_cores": 2 if name == "c" else 1}) for name in names
    }
    fleet.agent("here", "--slots", "4", "--cores", "4", "--memory", "8")
    for name in "abc":
        fleet.started(name)
    # The heartbeat of several rounds changes nothing about that.
    seen = fleet.await_agent("here")
    assert (seen["slots"], seen["active"]) == (4, 3)
    assert seen["resources"]["cpu_cores"] == 4
    assert fleet.run(runs["d"])["status"] == "queued"
    fleet.let_go("c")
    fleet.started("d")
    fleet.let_go("a", "b", "d")
    fleet.check_all(runs)
    assert all(len(fleet.pids(name)) == 1 for name in names)
    work = fleet.work("here")
    kept = work / "agent.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["name"] == "here"
    wait_until(lambda: not list(work.glob("*-*")), on_timeout="delivered folders are kept")
    fleet.agents["here"].kill(15)
    assert fleet.agents["here"].wait() == 0, fleet.story()


def test_labels_and_sizes_decide_where_a_run_goes(fleet: Fleet) -> None:
    """A run that names a label goes to the agent that has it, whoever asks first."""
    fleet.agent("plain", "--slots", "2", "--gpus", "0")
    fleet.await_agent("plain")
    wanted = fleet.submit("wanted", labels=["wind-tunnel"])
    big = fleet.submit("big", needs={"gpu_count": 2})
    plain = fleet.submit("plain")
    fleet.started("plain")
    assert fleet.run(wanted)["status"] == fleet.run(big)["status"] == "queued"
    fleet.agent("other", "--slots", "2", "--gpus", "2", "--labels", "wind-tunnel, dry")
    for name, run in (("wanted", wanted), ("big", big)):
        fleet.started(name)
        assert fleet.attempts(run)[-1]["agent"] == "other"
    assert fleet.attempts(plain)[-1]["agent"] == "plain"
    fleet.let_go("wanted", "big", "plain")
    fleet.check_all({"wanted": wanted, "big": big, "plain": plain})


def test_one_is_cancelled_and_one_paused_among_many(fleet: Fleet) -> None:
    """Commands reach their own program at once; the others go on."""
    fleet.agent("here", "--slots", "4", "--cores", "4")
    names = ["one", "two", "three"]
    runs = {name: fleet.submit(name) for name in names}
    pids = {name: fleet.started(name) for name in names}
    for run in runs.values():
        fleet.wait(run, "running")
    fleet.ask(runs["one"], "cancel")
    fleet.ask(runs["two"], "pause")
    fleet.wait(runs["one"], "cancelled")
    fleet.wait(runs["two"], "paused")
    assert not lives(pids["one"])
    assert stopped(pids["two"])
    ticks, others = fleet.ticks("two"), fleet.ticks("three")
    wait_until(lambda: fleet.ticks("three") != others)
    assert fleet.ticks("two") == ticks
    fleet.ask(runs["two"], "resume")
    fleet.wait(runs["two"], "running")
    wait_until(lambda: fleet.ticks("two") != ticks)
    fleet.let_go("two", "three")
    fleet.check_all({name: runs[name] for name in ("two", "three")})
    assert fleet.pids("two") == [pids["two"]]


def test_a_paused_run_can_be_cancelled(fleet: Fleet) -> None:
    """The program is woken to be stopped, and nothing of it is left."""
    fleet.agent("here", "--slots", "1")
    run = fleet.submit("one")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    fleet.ask(run, "pause")
    fleet.wait(run, "paused")
    fleet.ask(run, "cancel")
    fleet.wait(run, "cancelled")
    assert not lives(pid)
