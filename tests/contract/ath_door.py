"""The acoustics door on a real socket, over services whose clock a test sets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import requests
import uvicorn
from fastapi import FastAPI

from physicsrunner.core.state import RunState
from physicsrunner.server import problems
from physicsrunner.server.doors import ath
from physicsrunner.server.limits import BodyLimits, Limits
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire.messages import Failure, LeaseGrant, Report
from tests.contract.service_house import House, open_house
from tests.support.wait import wait_until

MODEL = "solver"
OPTIONS = ServerOptions(doors=("ath",), ath_model=MODEL)
SOLVE: dict[str, Any] = {
    "frequency_range": [200, 20000],
    "num_frequencies": 48,
    "sim_type": "2",
    "formula_type": "R-OSSE",
}
#: One triangle of each tag.
MESH: dict[str, Any] = {
    "vertices": [0, 0, 0, 1.5, 0, 0, 0, 1, 0, 0, 0, 1],
    "indices": [0, 1, 2, 0, 1, 3, 0, 2, 3, 1, 2, 3],
    "surfaceTags": [1, 2, 3, 4],
}


def posix(text: str) -> float:
    """Return a time of the document's examples as the clock has it."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@dataclass
class Door:
    """The door, who calls, and the services behind it."""

    house: House
    url: str
    session: requests.Session
    token: str

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Make one request."""
        token = more.pop("token", self.token)
        headers = {**more.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.session.request(
            method, f"{self.url}/ath/api/{path}", headers=headers, timeout=30, **more
        )

    def value(self, method: str, path: str, **more: Any) -> Any:
        """Make one request that must succeed; return its JSON."""
        response = self.call(method, path, **more)
        assert response.status_code == 200, f"{response.status_code}: {response.text}"
        return response.json()

    def solve(self, **fields: Any) -> str:
        """Put a job into the queue; return its id."""
        return str(self.value("POST", "solve", json={**SOLVE, **fields})["job_id"])

    def status(self, job: str) -> str:
        """Return the state of a job."""
        return str(self.value("GET", f"status/{job}")["status"])

    def items(self, query: str = "") -> list[dict[str, Any]]:
        """Return a page of jobs."""
        return list(self.value("GET", f"jobs{query}")["items"])

    def listed(self, status: str) -> list[str]:
        """Return the ids of the jobs of a state."""
        return [item["id"] for item in self.items(f"?status={status}")]

    def token_of(self, name: str, role: str = "user") -> str:
        """Return a token of another person."""
        return self.house.services.access.user_token(name, role)

    # -- the agent -----------------------------------------------------------------------------

    def lease(self, agent: str = "node") -> LeaseGrant | None:
        """Have an agent take the next job; None: it is given none."""
        grants = self.house.lease(agent)
        return grants[0] if grants else None

    def started(self, agent: str = "node") -> LeaseGrant:
        """Have an agent take the next job and start its program."""
        grant = self.lease(agent)
        assert grant is not None, "there is nothing to do"
        self.report(grant, state=RunState.RUNNING)
        return grant

    def report(self, grant: LeaseGrant, agent: str = "node", **said: Any) -> str | None:
        """Report as the agent; return the error's code, if any."""
        report = Report(grant.run, grant.attempt, **said)
        identity = self.house.agent(agent)
        return self.house.services.leases.report(identity, [report])[0].error

    def leave(self, grant: LeaseGrant, **files: bytes) -> None:
        """Send and seal files of main.py: ``results`` and ``mesh``."""
        names = {
            "results": "outputs/data_files/results.json",
            "mesh": "outputs/data_files/mesh.msh",
        }
        self.house.put(self.house.bearer(grant), grant, {names[k]: v for k, v in files.items()})

    def complete(self, grant: LeaseGrant, **files: bytes) -> None:
        """Have a job end well, with files."""
        self.leave(grant, **files)
        assert self.report(grant, state=RunState.COMPLETED, exit_code=0) is None

    def fail(self, grant: LeaseGrant, code: str = "program_failed", text: str = "it broke") -> None:
        """Have a job fail."""
        assert self.report(grant, state=RunState.FAILED, error=Failure(code, text)) is None


def compact(value: Any) -> bytes:
    """Return *value* as the door writes JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


@contextmanager
def served(folder: Path, url: str | None = None, **options: Any) -> Iterator[Door]:
    """Serve the door over the services of *folder* while the block lasts."""
    house = open_house(folder, url=url, options=replace(OPTIONS, **options))
    if house.services.models.list(house.admin) == []:
        house.model(name=MODEL)
    api = FastAPI()
    api.include_router(ath.router(house.services), prefix="/ath")
    problems.install(api)
    api.add_middleware(BodyLimits, limits=Limits(json=1024 * 1024))
    line = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]}, name="door")
    thread.start()
    session = requests.Session()
    try:
        wait_until(lambda: server.started, on_timeout="the door does not open")
        where = f"http://127.0.0.1:{line.getsockname()[1]}"
        yield Door(house, where, session, house.services.admin_token_file.read_text().strip())
    finally:
        session.close()
        server.should_exit = True
        thread.join(30)
        line.close()
        house.services.close()
