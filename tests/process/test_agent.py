"""`physicsrunner up`: a queued run is carried out by the local agent, whole, whatever dies."""

from __future__ import annotations

import hashlib
import itertools
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests

from physicsrunner.agent.adopt import Work, prepare, unfinished
from physicsrunner.agent.agent import Agent, locked
from physicsrunner.agent.enroll import Credentials
from physicsrunner.agent.resources import Machine
from physicsrunner.client.http import Http
from physicsrunner.core.state import RunState
from physicsrunner.errors import ServerUnavailable
from physicsrunner.runner.place import Place
from physicsrunner.runner.result import RunResult
from physicsrunner.wire import rest
from physicsrunner.wire.codec import decode
from physicsrunner.wire.messages import LeaseGrant, Resources
from tests.contract.rest_server import RestServer, rest_server, zip_of
from tests.support.processes import LISTENING, Processes, Started
from tests.support.wait import wait_until

MAIN = """\
import argparse, os, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--outputsPath")
outputs = pathlib.Path(parser.parse_known_args()[0].outputsPath)
with (outputs.parent / "started").open("a") as file:
    file.write("once\\n")
gate = os.environ.get("GATE")
print("begun", flush=True)
while gate and not pathlib.Path(gate).exists():
    time.sleep(0.02)
(outputs / "files").mkdir(exist_ok=True)
(outputs / "files" / "a b.bin").write_bytes(bytes(range(256)) * 5000)
(outputs / "files" / "n\u00e4me.txt").write_text("text")
print("done", flush=True)
"""


class Up:
    """A `physicsrunner up` process."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.data = processes.folder / "data"
        self.port = str(processes.port())
        self.start()

    def start(self) -> None:
        """Start it, on the port of the time before."""
        arguments = ("up", "--data", str(self.data), "--port", self.port)
        self.process: Started = self.processes.python(*arguments, name="up")
        found = wait_until(
            lambda: LISTENING.search(self.process.log.read_bytes()),
            timeout=60,
            on_timeout=self.process.story,
        )
        assert found is not None
        self.url = found[1].decode()

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """Make one request as the administrator."""
        token = (self.data / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        response = requests.request(method, self.url + path, headers=headers, timeout=30, **kwargs)
        assert response.ok, response.text
        return response

    def submit(self, **more: Any) -> str:
        """Queue a run of `MAIN`."""
        body = zip_of({"main.py": MAIN.encode()})
        model = self.call("POST", f"{rest.MODELS}?name=test", data=body).json()["id"]
        run = self.call("POST", rest.SIMULATIONS, json={"model_id": model, **more}).json()
        return str(run["id"])

    def status(self, run: str) -> str:
        """Return the run's state."""
        return str(self.call("GET", f"{rest.simulation(run)}/status").json()["status"])

    def wait(self, run: str, state: str) -> None:
        """Wait until the run is in *state*."""
        wait_until(
            lambda: self.status(run) == state,
            timeout=60,
            on_timeout=lambda: (self.status(run), self.process.story()),
        )


@pytest.fixture
def up(processes: Processes) -> Up:
    """A server with an agent."""
    return Up(processes)


def check_files(up: Up, run: str) -> None:
    """Check that what main.py wrote is at the server, byte for byte."""
    expected = {
        "outputs/data_files/a b.bin": bytes(range(256)) * 5000,
        "outputs/data_files/n\u00e4me.txt": b"text",
        "logs/main.log": b"begun\ndone\n",
    }
    listed = up.call("GET", f"{rest.simulation(run)}/artifacts").json()["data"]
    stored = {item["path"]: item for item in listed}
    assert all(item["sealed"] for item in listed)
    for path, data in expected.items():
        digest = hashlib.sha256(data).hexdigest()
        assert stored[path]["sha256"] == digest
        fetched = up.call("GET", rest.artifact(run, path)).content
        assert hashlib.sha256(fetched).hexdigest() == digest


def test_a_queued_run_is_carried_out(up: Up) -> None:
    """Submitted over REST, completed by the agent, files whole; then the next one."""
    first, second = up.submit(), up.submit()
    for run in (first, second):
        up.wait(run, "completed")
        check_files(up, run)
    work = up.data / "work"
    wait_until(lambda: not list(unfinished(work)))
    wait_until(lambda: not (work / first).exists(), on_timeout="a delivered folder is kept")
    settings = up.processes.folder / "home" / ".config" / "physicsrunner" / "config.yaml"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert up.url in settings.read_text()
    up.process.kill(15)
    assert up.process.wait() == 0, up.process.story()


def test_kill_9_in_mid_run_loses_nothing(up: Up, tmp_path: Path) -> None:
    """main.py runs on; the next `up` takes it up again, it runs once, the files are whole."""
    gate = tmp_path / "gate"
    run = up.submit(configuration={"environment_variables": {"GATE": str(gate)}})
    up.wait(run, "running")
    started = up.data / "work" / run / "1" / "started"
    wait_until(started.exists)
    up.process.kill()
    config = up.data / "work" / run / "1" / "config.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    copy = config.parent / "scripts" / "config.json"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    up.start()
    wait_until(lambda: re.search(rf"taking up run {run}", up.process.output()))
    assert started.read_text() == "once\n"
    gate.touch()
    up.wait(run, "completed")
    check_files(up, run)
    shown = up.call("GET", rest.simulation(run)).json()
    assert shown["attempt"] == 1
    up.process.stop()


def test_a_cancelled_run_keeps_what_it_wrote(up: Up, tmp_path: Path) -> None:
    """cancel reaches main.py through the agent; its log is there."""
    gate = str(tmp_path / "never")
    run = up.submit(configuration={"environment_variables": {"GATE": gate}})
    up.wait(run, "running")
    logs = f"{rest.simulation(run)}/logs"
    wait_until(lambda: up.call("GET", logs).content.startswith(b"begun\n"))
    up.call("POST", f"{rest.simulation(run)}/cancel")
    up.wait(run, "cancelled")
    assert up.call("GET", logs).content.startswith(b"begun\n")
    up.process.stop()


# -- the agent alone, with a runner of the test ---------------------------------------------------


def granted(run: str = "r", attempt: int = 1) -> LeaseGrant:
    """Return a lease."""
    return LeaseGrant(run, attempt, 1, "name", 0.0, 15.0, token="secret")


class FakeRunner:
    """Carries out nothing; answers what it is told to, and reports the end of what it delivered."""

    def __init__(self, server: RestServer | None, *outcomes: RunResult | Exception) -> None:
        self.server = server
        self.outcomes = list(outcomes)
        self.carried: list[str] = []

    def start(self) -> None:
        """Nothing is shared."""

    def rhythm(self, flush_s: float) -> None:
        """Nothing is sent."""

    def close(self) -> None:
        """Nothing is open."""

    def control(self) -> Mock:
        return Mock()

    def __call__(
        self, work: Work, _control: object, _grant: LeaseGrant | None, _place: Place
    ) -> RunResult:
        self.carried.append(work.run)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if self.server is not None and outcome.delivered:
            self.server.report(work.run, state="failed")
        return outcome


def outcome(*, delivered: bool) -> RunResult:
    """Return a result."""
    return RunResult("r", 1, RunState.COMPLETED, delivered=delivered)


@contextmanager
def running(url: str, token: str, work: Path, runner: FakeRunner) -> Iterator[Agent]:
    """Run an agent with one slot in a thread; its clock hurries."""
    clock = itertools.count(0.0, 100.0)
    http = Http(url, token)
    agent = Agent(
        Credentials(url, "here", token),
        work,
        Machine(Resources(), 1),
        http=http,
        carry_out=runner,
        poll_s=0.05,
        now=lambda: next(clock),
    )
    thread = threading.Thread(target=agent.run)
    with locked(work):
        thread.start()
        try:
            yield agent
        finally:
            agent.drain()
            thread.join(30)
            http.close()
    assert not thread.is_alive()


def test_the_unfinished_comes_before_new_work_and_faults_do_not_end_the_agent(
    tmp_path: Path,
) -> None:
    """A work folder of before is first; an error of one run does not keep the next from running;
    what was not delivered is tried again."""
    work = tmp_path / "work"
    with rest_server(tmp_path / "data") as server:
        model = server.model()["id"]
        first = server.value("POST", rest.SIMULATIONS, json={"model_id": model})["id"]
        (lease,) = server.value("POST", rest.LEASES, json={"agent": "here"})
        before = prepare(work, decode(LeaseGrant, lease), "http://server")
        runner = FakeRunner(
            server,
            RuntimeError("broken"),
            outcome(delivered=False),
            ServerUnavailable("away"),
            outcome(delivered=True),
            outcome(delivered=True),
        )
        run = server.value("POST", rest.SIMULATIONS, json={"model_id": model})["id"]
        with running(server.url, server.admin, work, runner):
            wait_until(
                lambda: not list(unfinished(work)) and not runner.outcomes,
                on_timeout=lambda: runner.carried,
            )
    assert runner.carried[0] == first
    assert run in runner.carried
    assert not before.root.exists()


def test_an_agent_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    """No server is no error: it goes on asking, and ends at once when it is told to."""
    with rest_server(tmp_path / "data") as server:
        url, admin = server.url, server.admin
    with running(url, admin, tmp_path / "work", FakeRunner(None)) as agent:
        wait_until(lambda: not agent.contact.answering)
