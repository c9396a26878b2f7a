"""Lost contact: an agent that slept, a server that is away, and who decides what follows."""

from __future__ import annotations

import signal

import pytest

from physicsrunner.wire import rest
from tests.support.agents import AT_ONCE, Fleet, lives
from tests.support.processes import Processes
from tests.support.wait import wait_until

LEASE_S, GRACE_S = 1.5, 6.0  # longer than a busy machine keeps an agent from speaking


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server that loses patience soon."""
    return Fleet(processes, lease_s=LEASE_S, grace_s=GRACE_S)


def submit_each(fleet: Fleet, *policies: str) -> dict[str, str]:
    """Queue a run of each policy, by its name."""
    return {
        policy: fleet.submit(policy, on_lost_contact=policy, retry_policy=AT_ONCE)
        for policy in policies
    }


def test_who_slept_too_long_is_fenced_off(fleet: Fleet) -> None:
    """The run is given to another; the sleeper stops its program, reports nothing more and still
    delivers its files; the record is the second's."""
    run = fleet.submit("one", on_lost_contact="retry", retry_policy=AT_ONCE)
    sleeper = fleet.agent("sleeper", "--slots", "1")
    first = fleet.started("one")
    fleet.wait(run, "running")
    sleeper.kill(signal.SIGSTOP)
    fleet.agent("other", "--slots", "1")
    second = fleet.started("one", times=2)
    fleet.wait(run, "running")
    assert lives(first)
    sleeper.kill(signal.SIGCONT)
    wait_until(lambda: not lives(first), timeout=30, on_timeout=fleet.story)
    wait_until(lambda: "attempt 1 is no longer ours" in sleeper.output(), on_timeout=sleeper.story)
    wait_until(
        lambda: not (fleet.work("sleeper") / run / "1").exists(),
        timeout=60,
        on_timeout=sleeper.story,
    )
    found = fleet.run(run)
    assert (found["status"], found["attempt"]) == ("running", 2)
    assert lives(second)
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert fleet.run(run)["attempt"] == 2
    tried = {attempt["attempt"]: attempt for attempt in fleet.attempts(run)}
    assert (tried[1]["agent"], tried[2]["agent"]) == ("sleeper", "other")
    files = fleet.call("GET", f"{rest.attempt(run, 1)}/files").json()["data"]
    assert "logs/main.log" in {file["path"] for file in files}


def test_a_server_that_is_away_for_a_while_changes_nothing(processes: Processes) -> None:
    """Shorter than the grace time: the same attempt, the same program, whole files."""
    fleet = Fleet(processes, lease_s=LEASE_S, grace_s=300)
    policies = ("wait", "retry", "fail")
    runs = {
        name: fleet.submit(name, on_lost_contact=name, retry_policy=AT_ONCE) for name in policies
    }
    agent = fleet.agent("here", "--slots", "3", "--cores", "3")
    pids = {name: fleet.started(name) for name in policies}
    for run in runs.values():
        fleet.wait(run, "running")
    fleet.server.kill()
    wait_until(lambda: "the server does not answer" in agent.output(), timeout=30)
    ticks = {name: fleet.ticks(name) for name in policies}
    wait_until(lambda: all(fleet.ticks(name) != ticks[name] for name in policies))
    fleet.server.restart()
    wait_until(lambda: "the server answers again" in agent.output(), timeout=60)
    fleet.let_go(*policies)
    fleet.check_all(runs)
    assert {name: fleet.pids(name) for name in policies} == {n: [p] for n, p in pids.items()}


def test_a_server_that_is_away_for_long_finds_what_each_run_asked_for(
    processes: Processes,
) -> None:
    """wait: it goes on for ever; retry and fail: the agent stops them itself, and the server
    then does what the run asked for."""
    # After its restart the server gives nobody up for the time of one lease, however long the grace
    # time was over: by then the agent must have delivered what it stopped, and have said so.
    fleet = Fleet(processes, lease_s=12, grace_s=1)
    policies = ("wait", "retry", "fail")
    runs = {
        name: fleet.submit(name, on_lost_contact=name, retry_policy=AT_ONCE) for name in policies
    }
    agent = fleet.agent("here", "--slots", "3", "--cores", "3")
    pids = {name: fleet.started(name) for name in policies}
    for run in runs.values():
        fleet.wait(run, "running")
    fleet.server.kill()
    wait_until(
        lambda: not lives(pids["retry"]) and not lives(pids["fail"]),
        timeout=60,
        on_timeout=agent.story,
    )
    assert lives(pids["wait"])
    fleet.server.restart()
    fleet.started("retry", times=2)
    failed = fleet.wait(runs["fail"], "failed")
    assert failed["error_code"] == "lost_contact"
    (stopped, _) = fleet.attempts(runs["retry"])
    for one in (failed, stopped):  # the agent says it at once: nobody waits for the grace time
        assert "here stopped it" in one["error_message"]
    fleet.let_go("wait", "retry")
    fleet.check_all({name: runs[name] for name in ("wait", "retry")})
    assert fleet.pids("wait") == [pids["wait"]]
    assert len(fleet.pids("fail")) == 1
