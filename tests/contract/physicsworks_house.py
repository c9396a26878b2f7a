"""A server with the PhysicsWorks door, a clock that tests set, and a client of its API part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.service.access import Identity
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import rest
from physicsrunner.wire.messages import Heartbeat, HeldLease, LeaseRequest, Report, Resources
from tests.contract.rest_server import RestServer, rest_server, zip_of

CASE = b"""\
name: plate
description: A plate that is heated.
parameters:
  temperature: {value: 300, unit: K}
  mesh: {cells: 10, kind: tri}
  steps: 5
"""
MAIN = b"print('hello')\n"


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


class House:
    """The server, and what tests ask of it."""

    def __init__(self, server: RestServer, clock: Clock) -> None:
        self.server = server
        self.services = server.services
        self.clock = clock
        self._holding: dict[str, list[HeldLease]] = {}
        self.admin: Identity = self.services.access.authenticate(server.admin)

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Make one call of the client, a second after the one before."""
        self.clock.time += 1.0
        token = more.pop("token", self.server.admin)
        headers = {**({} if token is None else {"auth-token": token}), **more.pop("headers", {})}
        prefix = more.pop("prefix", "/physicsworks/api")
        url = f"{self.server.url}{prefix}/{path}"
        return self.server.session.request(method, url, headers=headers, timeout=30, **more)

    def value(self, method: str, path: str, **more: Any) -> Any:
        """Make one call that must succeed; return its JSON."""
        answer = self.call(method, path, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def model(
        self,
        name: str = "plate",
        project: str | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Store a model of *files*, and main.py and the case file above; return its id."""
        self.clock.time += 1.0
        given = {"main.py": MAIN, "case.yaml": CASE, **(files or {})}
        query = f"name={name}" + (f"&project_id={project}" if project else "")
        body = zip_of({path: data for path, data in given.items() if data})
        return str(self.server.value("POST", f"{rest.MODELS}?{query}", data=body)["id"])

    def person(self, name: str, role: str | None, **projects: str) -> str:
        """Make a person; return a token."""
        self.server.value("POST", rest.USERS, json={"name": name, "role": role})
        for project, there in projects.items():
            self.server.value("PUT", rest.member(project, name), json={"role": there})
        made = self.server.value("POST", rest.TOKENS, json={"name": "t", "user": name})
        return str(made["token"])

    def patch(self, model: str, **values: Any) -> Any:
        """Change inputs of a simulation by their paths, with a dot for a slash."""
        inputs = [
            {"fullPath": "/" + path.replace("__", "/"), "value": value}
            for path, value in values.items()
        ]
        return self.value("PATCH", f"v1/simulation/tree/{model}", json={"inputs": inputs})

    def dispatch(self, simulation: str, *runners: str, **more: Any) -> str:
        """Queue a run; return the id of its job."""
        body = {"runners": list(runners)} if runners else None
        return str(self.value("POST", f"v1/simulation/run/{simulation}", json=body, **more)["id"])

    def native(self, model: str, **more: Any) -> str:
        """Queue a run by the native way; return its id."""
        return self.services.runs.create(self.admin, NewRun(model_id=model, **more)).id

    # -- an agent ----------------------------------------------------------------------------

    def agent(self, name: str, *labels: str) -> None:
        """Have an agent say that it is there."""
        beat = Heartbeat(free=Resources(cpu_cores=4.0), labels=list(labels), slots=4)
        self.services.fleet.heartbeat(self.admin, name, beat)

    def lease(self, agent: str = "north", *labels: str) -> list[str]:
        """Have an agent ask for work; return the runs that it is given."""
        wanted = LeaseRequest(
            agent=agent,
            free=Resources(cpu_cores=9.0),
            labels=list(labels),
            max=9,
            holding=self._holding.get(agent, []),
        )
        given = [grant.run for grant in self.services.leases.acquire(self.admin, wanted)]
        self._holding.setdefault(agent, []).extend(HeldLease(run, 1) for run in given)
        return given

    def report(self, run: str, state: RunState, **more: Any) -> None:
        """Report on the first attempt."""
        report = Report(run, 1, state=state, **more)
        (answer,) = self.services.leases.report(self.admin, [report])
        assert answer.error is None, answer

    def finish(self, run: str, files: Mapping[str, bytes] | None = None, **more: Any) -> None:
        """Carry a run that was leased to its end, with files."""
        self.report(run, RunState.RUNNING, stage="execute")
        for path, data in (files or {}).items():
            self.server.put_file(run, path, data)
        self.report(run, RunState.COMPLETED, **more)


@contextmanager
def house(folder: Path, **options: Any) -> Iterator[House]:
    """Serve the door while the block lasts."""
    clock = Clock()
    with rest_server(folder, options=ServerOptions(**options), now=clock) as server:
        yield House(server, clock)
