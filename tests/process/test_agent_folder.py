"""An agent's folder: full, of another server, of one that has moved; and answers that are lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from physicsrunner.wire import rest
from tests.support.agents import AT_ONCE, Fleet, lives
from tests.support.disk import SmallDisk
from tests.support.processes import Processes
from tests.support.proxy import Fault, FaultProxy
from tests.support.wait import wait_until


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server without agents."""
    return Fleet(processes, lease_s=4)


@pytest.fixture
def small(fleet: Fleet) -> Iterator[SmallDisk]:
    """A disk of two megabytes where agent ``here`` has its folder."""
    disk = SmallDisk(fleet.work("here"), 2)
    yield disk
    disk.close()


def test_a_server_that_moved_is_the_same_server(
    fleet: Fleet, proxy_for: Callable[[int], FaultProxy]
) -> None:
    """At its new address it takes the kept token; what is unfinished is delivered there."""
    agent = fleet.agent("here", "--slots", "1")
    run = fleet.submit("one")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    agent.kill()
    moved = proxy_for(fleet.server.port).url
    again = fleet.agent("here", "--slots", "1", url=moved)
    wait_until(
        lambda: f"has moved from {fleet.server.url} to {moved}" in again.output(),
        timeout=60,
        on_timeout=again.story,
    )
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert fleet.pids("one") == [pid]
    assert json.loads((fleet.work("here") / "agent.json").read_text())["server"] == moved


def test_another_server_is_told_from_one_that_moved(fleet: Fleet, processes: Processes) -> None:
    """It refuses the token: the agent ends with words, the program goes on."""
    agent = fleet.agent("here", "--slots", "1")
    run = fleet.submit("one")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    agent.kill()
    other = processes.server()
    stranger = fleet.agent("here", "--slots", "1", url=other.url)
    assert stranger.wait() == 5
    assert f"belongs to agent here of {fleet.server.url}" in stranger.output()
    assert lives(pid)
    fleet.agent("here", "--slots", "1")
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert fleet.pids("one") == [pid]


def test_answers_that_are_lost_cost_nothing(
    fleet: Fleet, proxy_for: Callable[[int], FaultProxy]
) -> None:
    """Of the enrollment, of a lease, of a heartbeat: each is asked again, each run runs once."""
    proxy = proxy_for(fleet.server.port)
    for path in (rest.ENROLL, rest.LEASES, rest.agent("here")):
        proxy.inject(Fault("lost_answer"), times=2, match=path + "$")
    names = ["one", "two", "three"]
    runs = {name: fleet.submit(name, retry_policy=AT_ONCE) for name in names}
    agent = fleet.agent("here", "--slots", "3", "--cores", "3", url=proxy.url)
    for name in names:
        fleet.started(name)
    wait_until(lambda: not proxy.pending(), timeout=30, on_timeout=agent.story)
    fleet.let_go(*names)
    fleet.check_all(runs)
    assert all(len(fleet.pids(name)) == 1 for name in names)
    assert all(fleet.run(run)["attempt"] == 1 for run in runs.values())


def test_a_full_disk_gives_the_run_to_another(fleet: Fleet, small: SmallDisk) -> None:
    """The agent says which folder is full, gives the lease back, and asks for nothing more."""
    agent = fleet.agent("here", "--slots", "2")
    fleet.await_agent("here")
    small.fill()
    run = fleet.submit("one")
    wait_until(
        lambda: "No space left on device; asking for no work" in agent.output(),
        timeout=60,
        on_timeout=agent.story,
    )
    other = fleet.agent("other", "--slots", "1")
    fleet.started("one")
    assert fleet.attempts(run)[-1]["agent"] == "other", other.story()
    assert fleet.run(run)["retry_count"] == 0
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert agent.alive


def test_a_folder_that_is_none_is_named(fleet: Fleet, tmp_path: Path) -> None:
    """A file where the work folder should be."""
    (tmp_path / "file").write_text("")
    arguments = ["agent", "--work", str(tmp_path / "file" / "work"), "--token", "x"]
    done = fleet.processes.cli(*arguments, server=fleet.server, check=False)
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
