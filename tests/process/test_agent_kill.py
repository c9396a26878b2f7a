"""kill -9 of an agent with many programs: the next one goes on with all of them."""

from __future__ import annotations

import signal

import pytest

from tests.support.agents import Fleet, lives
from tests.support.processes import Processes
from tests.support.wait import wait_until

TEN = [f"solver{n}" for n in range(10)]


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server without agents."""
    return Fleet(processes, lease_s=8)


def test_ten_solvers_outlive_their_agent(fleet: Fleet) -> None:
    """They never stopped: same pids, logs, files and exit codes are whole, and each ran once."""
    fleet.agent("here", "--slots", "10", "--cores", "10")
    runs = {name: fleet.submit(name, code=n % 3) for n, name in enumerate(TEN)}
    pids = {name: fleet.started(name) for name in TEN}
    for run in runs.values():
        fleet.wait(run, "running")
    fleet.agents["here"].kill()
    fleet.let_go(TEN[0], TEN[1])  # two end while nobody looks
    wait_until(lambda: not lives(pids[TEN[0]]) and not lives(pids[TEN[1]]))
    ticks = {name: fleet.ticks(name) for name in TEN[2:]}
    again = fleet.agent("here", "--slots", "10", "--cores", "10")
    wait_until(
        lambda: again.output().count("taking up run") == len(TEN),
        timeout=60,
        on_timeout=again.story,
    )
    for name in TEN[2:]:
        assert lives(pids[name])
        wait_until(lambda name=name: fleet.ticks(name) != ticks[name])  # type: ignore[misc]
    fleet.let_go(*TEN)
    for n, name in enumerate(TEN):
        ended = fleet.wait(runs[name], "completed" if n % 3 == 0 else "failed")
        assert ended["exit_code"] == n % 3
        assert ended["attempt"] == 1
        fleet.check(runs[name], name)
        assert fleet.pids(name) == [pids[name]]


def test_the_second_signal_leaves_and_the_next_start_goes_on(fleet: Fleet) -> None:
    """Drained by the first signal it waits; by the second it is gone, and the program is not."""
    agent = fleet.agent("here", "--slots", "2")
    run = fleet.submit("one")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    agent.kill(signal.SIGTERM)
    wait_until(lambda: "waiting for 1 run;" in agent.output(), on_timeout=agent.story)
    assert agent.alive
    assert lives(pid)
    late = fleet.submit("late")
    agent.kill(signal.SIGTERM)
    assert agent.wait() == 130
    assert "1 program left running" in agent.output()
    assert lives(pid)
    assert fleet.run(late)["status"] == "queued"
    fleet.agent("here", "--slots", "2")
    fleet.let_go("one", "late")
    fleet.check_all({"one": run, "late": late})
    assert fleet.pids("one") == [pid]


def test_an_agent_comes_back_while_the_server_is_away(fleet: Fleet) -> None:
    """What is unfinished needs no server to be taken up; it is delivered when there is one."""
    fleet.agent("here", "--slots", "2")
    run = fleet.submit("one")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    fleet.agents["here"].kill()
    fleet.server.kill()
    again = fleet.agent("here", "--slots", "2")
    wait_until(lambda: "taking up run" in again.output(), timeout=60, on_timeout=again.story)
    assert lives(pid)
    fleet.let_go("one")
    wait_until(lambda: not lives(pid))
    fleet.server.restart()
    fleet.check_all({"one": run})


def test_two_agents_never_share_a_work_folder(fleet: Fleet) -> None:
    """The second one says who uses it, and that each needs one of its own."""
    fleet.agent("here")
    fleet.await_agent("here")
    work = str(fleet.work("here"))
    second = fleet.processes.cli(
        "agent", "--work", work, "--token", "x", server=fleet.server, check=False
    )
    assert second.returncode == 2
    assert f"pid {fleet.agents['here'].pid} uses" in second.stderr
