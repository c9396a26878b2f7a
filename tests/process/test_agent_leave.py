"""How an agent leaves: drained, handing back, idle, removed, paused by the breaker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from physicsrunner.wire import rest
from tests.support.agents import AT_ONCE, Fleet, lives
from tests.support.processes import Processes
from tests.support.wait import wait_until


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server without agents."""
    return Fleet(processes, lease_s=4)


def test_a_drained_agent_finishes_what_it_has(fleet: Fleet) -> None:
    """SIGTERM: no new work, the program runs to its end, then the agent ends well."""
    agent = fleet.agent("here", "--slots", "2")
    run = fleet.submit("one")
    fleet.started("one")
    agent.kill(signal.SIGTERM)
    wait_until(lambda: fleet.seen("here").get("state") == "draining", on_timeout=agent.story)
    late = fleet.submit("late")
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert agent.wait() == 0
    assert fleet.run(late)["status"] == "queued"
    fleet.ask(late, "cancel")


def test_signals_are_heeded_when_nobody_reads_what_is_said(fleet: Fleet) -> None:
    """Ctrl-C ends the `tee` that read the output, too: the agent drains all the same, or leaves."""
    token = fleet.one_time("here")
    at = ("--server", fleet.server.url, "--name", "here", "--work", str(fleet.work("here")))
    reader, writer = os.pipe()
    agent = subprocess.Popen(
        [sys.executable, "-m", "physicsrunner", "agent", *at, "--enroll-token", token],
        env=fleet.processes.environment(),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    try:
        os.close(writer)
        fleet.await_agent("here")
        run = fleet.submit("one")
        program = fleet.started("one")
        os.close(reader)
        agent.send_signal(signal.SIGINT)
        wait_until(lambda: fleet.seen("here").get("state") == "draining", timeout=60.0)
        agent.send_signal(signal.SIGINT)
        assert agent.wait(timeout=60) == 130
    finally:
        agent.kill()
        agent.wait()
    assert lives(program)
    fleet.agent("here")
    fleet.let_go("one")
    fleet.check_all({"one": run})


def test_handing_back_gives_the_runs_to_another_uncounted(fleet: Fleet) -> None:
    """The program is stopped; another agent begins the run anew, and no try is used up."""
    agent = fleet.agent("here", "--slots", "2", "--on-term", "hand-back")
    run = fleet.submit("one")
    first = fleet.started("one")
    fleet.wait(run, "running")
    agent.kill(signal.SIGINT)
    assert agent.wait() == 0, agent.story()
    assert not lives(first)
    fleet.agent("other", "--slots", "2")
    fleet.started("one", times=2)
    found = fleet.wait(run, "running")
    assert (found["attempt"], found["retry_count"]) == (2, 0)
    assert fleet.attempts(run)[-1]["agent"] == "other"
    fleet.let_go("one")
    fleet.check_all({"one": run})


def test_an_idle_agent_ends_by_itself(fleet: Fleet) -> None:
    """--exit-when-idle counts from the last run, not from the start."""
    run = fleet.submit("one")  # first: it must not be idle while we ask
    agent = fleet.agent("here", "--slots", "1", "--exit-when-idle", "1s")
    fleet.started("one")
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert agent.wait() == 0, agent.story()
    assert "nothing to do" in agent.output()


def test_a_person_drains_and_resumes_an_agent(fleet: Fleet) -> None:
    """`agents drain NAME` gives it nothing more, `agents resume NAME` does again."""
    agent = fleet.agent("here", "--slots", "1")
    fleet.await_agent("here")
    cli = fleet.processes.cli
    cli("agents", "drain", "here", server=fleet.server)
    wait_until(lambda: "no new work (draining)" in agent.output(), on_timeout=agent.story)
    run = fleet.submit("one")
    listed = cli("agents", server=fleet.server).stdout
    assert "here" in listed
    assert "draining" in listed
    assert fleet.run(run)["status"] == "queued"
    cli("agents", "resume", "here", server=fleet.server)
    fleet.started("one")
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert agent.alive


def test_a_removed_agent_says_so_and_ends(fleet: Fleet) -> None:
    """Its token is refused; a new one-time token takes the same folder up again."""
    agent = fleet.agent("here", "--slots", "1")
    fleet.await_agent("here")
    fleet.processes.cli("agents", "remove", "here", server=fleet.server)
    assert agent.wait() == 5
    assert "takes agent here no more" in agent.output()
    assert "agents enroll" in agent.output()
    again = fleet.agent("here", "--slots", "1")
    assert again.wait() == 5, "what was kept is refused at once"
    token = fleet.one_time("here")
    fleet.agent("here", "--slots", "1", "--enroll-token", token)
    run = fleet.submit("one")
    fleet.started("one")
    fleet.let_go("one")
    fleet.check_all({"one": run})


def test_a_refused_one_time_token_is_named(fleet: Fleet) -> None:
    """Used twice, by another agent: the second is told what to do."""
    token = fleet.one_time()
    first = fleet.agent("first", "--enroll-token", token)
    fleet.await_agent("first")
    work = str(fleet.processes.folder / "another")
    arguments = ["agent", "--name", "second", "--work", work, "--enroll-token", token]
    second = fleet.processes.cli(*arguments, server=fleet.server, check=False)
    assert second.returncode == 5
    assert "did not enroll agent second" in second.stderr
    assert token not in second.stderr
    assert first.alive


def test_an_agent_on_which_runs_keep_failing_at_start_is_paused(fleet: Fleet) -> None:
    """Five in a row; it is paused with the reason, the next run waits, a person lifts it."""
    agent = fleet.agent("here", "--slots", "1")
    broken = fleet.upload(b"what was sent")
    (fleet.server.data / "inputs" / broken["sha256"]).write_bytes(b"what came out")
    inputs = [{"path": "mesh.msh", **broken}]
    runs = [fleet.submit(f"run{n}", inputs=inputs) for n in range(5)]
    for run in runs:
        fleet.wait(run, "failed")
    seen = fleet.await_agent("here", "paused")
    assert "5" in seen["reason"]
    late = fleet.submit("late")
    wait_until(lambda: "no new work (paused)" in agent.output(), on_timeout=agent.story)
    assert fleet.run(late)["status"] == "queued"
    events = fleet.call("GET", rest.EVENTS, params={"after": 0, "types": "agent/paused"}).json()
    assert events["data"]
    fleet.processes.cli("agents", "resume", "here", server=fleet.server)
    assert fleet.seen("here")["state"] == "active"
    fleet.let_go("late")
    fleet.check_all({"late": late})


def test_systemd_hears_of_the_agent_and_main_py_does_not(fleet: Fleet) -> None:
    """READY when it is at work, signs of life in time, STOPPING; its variables are its own."""
    address = str(fleet.rope / "notify")
    heard: list[bytes] = []

    def listen() -> None:
        while b"STOPPING=1" not in (message := line.recv(1000)):
            heard.append(message)
        heard.append(message)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(60)
        # All the time, as systemd does: the kernel keeps ten messages.
        listening = threading.Thread(target=listen)
        listening.start()
        try:
            variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
            agent = fleet.agent("here", "--slots", "1", **variables)
            wait_until(lambda: heard, timeout=60, on_timeout=agent.story)
            assert heard[0].startswith(b"READY=1\nSTATUS=here at http://")
            run = fleet.submit("one")
            pid = fleet.started("one")
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environment
            assert b"WATCHDOG" not in environment
            before = len(heard)
            wait_until(lambda: len(heard) > before, on_timeout=agent.story)
            assert heard[-1].startswith(b"WATCHDOG=1\nSTATUS=")
            fleet.let_go("one")
            fleet.check_all({"one": run})
            agent.kill(signal.SIGTERM)
            assert agent.wait() == 0
        finally:
            with contextlib.suppress(OSError):  # where it said nothing of its end
                line.sendto(b"STOPPING=1 not said", address)
            listening.join()
    assert heard[-1].startswith(b"STOPPING=1\n")


def test_an_agent_that_holds_runs_is_removed_by_force_alone(fleet: Fleet) -> None:
    """Its runs go where they asked to; what it carries out itself ends with it or runs on."""
    fleet.agent("here", "--slots", "2")
    run = fleet.submit("one", on_lost_contact="retry", retry_policy=AT_ONCE)
    first = fleet.started("one")
    fleet.wait(run, "running")
    cli = fleet.processes.cli
    refused = cli("agents", "remove", "here", server=fleet.server, check=False)
    assert refused.returncode == 1
    assert "still carries out 1 runs" in refused.stderr
    assert lives(first)
    cli("agents", "remove", "here", "--force", server=fleet.server)
    assert fleet.agents["here"].wait() == 5
    assert not lives(first)
    fleet.agent("other", "--slots", "1")
    fleet.started("one", times=2)
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert fleet.attempts(run)[-1]["agent"] == "other"


def test_a_removed_agent_stops_what_would_wait_for_it_and_keeps_the_files(fleet: Fleet) -> None:
    """The run has failed: nobody waits. Enrolled again, the folder is delivered."""
    fleet.agent("here", "--slots", "1")
    run = fleet.submit("one", on_lost_contact="wait")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    fleet.processes.cli("agents", "remove", "here", "--force", server=fleet.server)
    assert fleet.agents["here"].wait() == 5, fleet.story()
    assert not lives(pid)
    assert fleet.run(run)["status"] == "failed"
    folder = fleet.work("here") / run / "1"
    assert list(folder.rglob("main.log"))
    fleet.agent("here", "--slots", "1", "--enroll-token", fleet.one_time("here"))
    wait_until(lambda: not folder.exists(), timeout=60, on_timeout=fleet.story)
    files = fleet.call("GET", f"{rest.attempt(run, 1)}/files").json()["data"]
    assert "logs/main.log" in {file["path"] for file in files}
    assert fleet.run(run)["status"] == "failed"


def test_an_agent_without_its_token_comes_back_to_what_waits_for_it(fleet: Fleet) -> None:
    """A token that was revoked is no removal: the program runs on, and is taken up again."""
    fleet.agent("here", "--slots", "1")
    run = fleet.submit("one", on_lost_contact="wait")
    pid = fleet.started("one")
    fleet.wait(run, "running")
    rows = fleet.call("GET", rest.TOKENS).json()["data"]
    (kept,) = [row["id"] for row in rows if row["kind"] == "agent"]
    fleet.call("DELETE", f"{rest.TOKENS}/{kept}")
    assert fleet.agents["here"].wait() == 5, fleet.story()
    assert lives(pid)
    fleet.agent("here", "--slots", "1", "--enroll-token", fleet.one_time("here"))
    fleet.let_go("one")
    fleet.check_all({"one": run})
    assert fleet.pids("one") == [pid]
