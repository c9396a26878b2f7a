"""
A server and its agents as processes, and runs whose main.py the test holds by a rope.

`Fleet.submit` queues a run of `MAIN`: it says that it has begun (a line in ``<name>.starts`` with
its pid), waits until the test lets it go (``<name>.go``) or asks it to stop, writes two files and
ends with the exit code it was told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from physicsrunner.wire import rest
from tests.contract.rest_server import zip_of
from tests.support.processes import Processes, ServerProcess, Started
from tests.support.wait import wait_until

MAIN = """\
import argparse, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--outputsPath")
outputs = pathlib.Path(parser.parse_known_args()[0].outputsPath)
name, rope = os.environ["NAME"], pathlib.Path(os.environ["ROPE"])
stop = pathlib.Path(os.environ["PHYSICSRUNNER_STOP_FILE"])
print("begun", flush=True)
with (rope / (name + ".starts")).open("a") as file:
    file.write(str(os.getpid()) + "\\n")
ticks = 0
while not (rope / (name + ".go")).exists():
    if stop.exists():
        print("stopped", flush=True)
        sys.exit(9)
    ticks += 1
    (rope / (name + ".ticks")).write_text(str(ticks))
    time.sleep(0.02)
(outputs / "files").mkdir(exist_ok=True)
(outputs / "files" / "a b.bin").write_bytes(name.encode() * 50_000)
(outputs / "files" / "n\u00e4me.txt").write_text(name)
print("done", flush=True)
sys.exit(int(os.environ.get("CODE", "0")))
"""

#: Another try waits for nothing.
AT_ONCE = {"retry_delay_seconds": 0}


class Fleet:
    """One server, its agents, and what they carry out."""

    def __init__(
        self,
        processes: Processes,
        *,
        lease_s: float = 60.0,
        grace_s: float = 300.0,
        **environment: str,
    ) -> None:
        self.processes = processes
        terms = {
            "PHYSICSRUNNER_LEASE_S": f"{lease_s:g}",
            "PHYSICSRUNNER_GRACE_S": f"{grace_s:g}",
            **environment,
        }
        self.server: ServerProcess = processes.server(None, **terms)
        self.rope = processes.folder / "rope"
        self.rope.mkdir()
        self.agents: dict[str, Started] = {}
        self._model: str | None = None

    # -- the server ----------------------------------------------------------------------------

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Make one request as the administrator, that must succeed."""
        headers = {"Authorization": f"Bearer {self.server.token}"}
        response = requests.request(
            method, self.server.url + path, headers=headers, timeout=30, **kwargs
        )
        assert response.ok, f"{method} {path}: {response.status_code} {response.text}"
        return response

    def submit(
        self,
        name: str,
        *,
        code: int = 0,
        main: str = MAIN,
        needs: dict[str, Any] | None = None,
        inputs: Sequence[dict[str, Any]] = (),
        **configuration: Any,
    ) -> str:
        """Queue a run called *name*; return its id."""
        variables = {"NAME": name, "ROPE": str(self.rope), "CODE": str(code)}
        body = {
            "name": name,
            "model_id": self.model(main),
            "resource_requirements": {"cpu_cores": 1, **(needs or {})},
            "configuration": {
                "environment_variables": variables,
                **configuration,
            },
            "inputs": list(inputs),
        }
        return str(self.call("POST", rest.SIMULATIONS, json=body).json()["id"])

    def upload(self, data: bytes) -> dict[str, Any]:
        """Store an input; return its hash and size, as a run names it."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.call("PUT", f"{rest.UPLOADS}/{sha256}", data=data)
        return {"sha256": sha256, "size": len(data)}

    def model(self, main: str = MAIN) -> str:
        """Store a model; return its id."""
        if main is not MAIN or self._model is None:
            body = zip_of({"main.py": main.encode()})
            found = self.call("POST", f"{rest.MODELS}?name=test", data=body).json()["id"]
            if main is not MAIN:
                return str(found)
            self._model = str(found)
        return self._model

    def run(self, run: str) -> dict[str, Any]:
        """Return a run as the server shows it."""
        return dict(self.call("GET", rest.simulation(run)).json())

    def wait(self, run: str, state: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until a run is in *state*; return it."""
        wait_until(
            lambda: self.run(run)["status"] == state,
            timeout=timeout,
            on_timeout=lambda: f"expected {state}: {self.run(run)}\n{self.story()}",
        )
        return self.run(run)

    def ask(self, run: str, what: str, **body: Any) -> None:
        """Ask for ``cancel``, ``pause`` or ``resume``."""
        self.call("POST", f"{rest.simulation(run)}/{what}", json=body)

    def attempts(self, run: str) -> list[dict[str, Any]]:
        """Return the attempts of a run."""
        return list(self.call("GET", f"{rest.simulation(run)}/attempts").json()["data"])

    # -- agents --------------------------------------------------------------------------------

    def agent(
        self, name: str, *options: str, url: str | None = None, **environment: str
    ) -> Started:
        """Start agent *name* (again): enrolled by a one-time token at its first start."""
        work = self.work(name)
        enroll = [] if (work / "agent.json").exists() else ["--enroll-token", self.one_time(name)]
        started = self.processes.python(
            *("agent", "--server", url or self.server.url, "--name", name),
            *("--work", str(work), *enroll, *options),
            environment=environment,
            name=name,
        )
        self.agents[name] = started
        return started

    def one_time(self, name: str | None = None) -> str:
        """Return a one-time token."""
        body = {} if name is None else {"name": name}
        return str(self.call("POST", rest.ENROLL_TOKENS, json=body).json()["token"])

    def seen(self, name: str) -> dict[str, Any]:
        """Return an agent as the server shows it; empty before it has come."""
        found = self.call("GET", rest.AGENTS).json()["data"]
        return next((agent for agent in found if agent["name"] == name), {})

    def await_agent(self, name: str, state: str = "active") -> dict[str, Any]:
        """Wait until an agent is there with its resources, in *state*."""
        return wait_until(
            lambda: agent if (agent := self.seen(name)).get("resources") else {},
            timeout=60,
            on_timeout=self.story,
        ) and wait_until(
            lambda: agent if (agent := self.seen(name)).get("state") == state else {},
            timeout=60,
            on_timeout=lambda: f"{self.seen(name)}\n{self.story()}",
        )

    def work(self, name: str) -> Path:
        """Return the folder of an agent."""
        return self.processes.folder / f"work of {name}"

    def story(self) -> str:
        """Return what the agents printed."""
        return "\n".join(agent.story() for agent in self.agents.values())

    # -- the programs --------------------------------------------------------------------------

    def pids(self, name: str) -> list[int]:
        """Return the pid of each start of a run's main.py."""
        try:
            lines = (self.rope / f"{name}.starts").read_text().split("\n")
        except FileNotFoundError:
            return []
        return [int(line) for line in lines[:-1]]

    def started(self, name: str, times: int = 1) -> int:
        """Wait until main.py was started so often; return the pid of the last start."""
        wait_until(
            lambda: len(self.pids(name)) >= times,
            timeout=60,
            on_timeout=lambda: f"{name}: {self.pids(name)}\n{self.story()}",
        )
        return self.pids(name)[times - 1]

    def let_go(self, *names: str) -> None:
        """Let programs end by themselves."""
        for name in names:
            (self.rope / f"{name}.go").touch()

    def hold(self, *names: str) -> None:
        """Hold the next starts of programs that were let go."""
        for name in names:
            (self.rope / f"{name}.go").unlink(missing_ok=True)

    def ticks(self, name: str) -> str:
        """Return how often a program has looked at its rope."""
        return (self.rope / f"{name}.ticks").read_text()

    def check(self, run: str, name: str, *, log: bytes = b"begun\ndone\n") -> None:
        """Fail unless what main.py wrote is on the server, sealed, byte for byte."""
        expected = {
            "outputs/data_files/a b.bin": name.encode() * 50_000,
            "outputs/data_files/n\u00e4me.txt": name.encode(),
            "logs/main.log": log,
        }
        listed = self.call("GET", f"{rest.simulation(run)}/artifacts").json()["data"]
        stored = {item["path"]: item for item in listed}
        assert all(item["sealed"] for item in listed), listed
        for path, data in expected.items():
            assert stored[path]["sha256"] == hashlib.sha256(data).hexdigest(), path
            fetched = self.call("GET", rest.artifact(run, path)).content
            assert fetched == data, path

    def check_all(self, runs: dict[str, str], state: str = "completed") -> None:
        """Wait for every run and check its files."""
        for name, run in runs.items():
            self.wait(run, state)
            self.check(run, name)


def lives(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rfind(")") + 2] not in "ZX"


def stopped(pid: int) -> bool:
    """Say whether a process stands still (SIGSTOP)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rfind(")") + 2] == "T"


def send(pids: Sequence[int], number: int) -> None:
    """Send a signal to processes."""
    for pid in pids:
        os.kill(pid, number)
