"""The ShakeScenario door of a whole server whose clock stands still, and a bare line to it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from physicsrunner.client.shakescenario_client import ShakeScenario
from physicsrunner.core.state import RunState
from physicsrunner.server.serve import Place, ready
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import frames
from physicsrunner.wire.messages import Failure, LeaseGrant, Report
from tests.contract.service_house import Clock, House

MODEL = "shaky"
OPTIONS = ServerOptions(
    doors=("shakescenario",), door_user="admin", shakescenario_model=MODEL, shakescenario_port=0
)
QUAKE: dict[str, Any] = {"mag": 5.2, "lon": 12.34, "lat": 45.67, "depth": 10}
GIVEN_S = 30.0  #: for an answer, on a busy machine


class Wire:
    """A bare connection: bytes out, frames in."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=GIVEN_S)
        self._stream = frames.FrameStream(64 * 1024 * 1024)
        self._bodies: deque[bytes] = deque()

    def __enter__(self) -> Wire:  # noqa: PYI034 - Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, step: int | None = None) -> None:
        """Send *data*, *step* bytes at a time."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step or len(data) or 1):
            self.socket.sendall(data[start : start + (step or len(data))])

    def exactly(self, size: int) -> bytes:
        """Return the next *size* bytes, as they come."""
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            assert piece, f"the line was closed after {found!r}"
            found += piece
        return found

    def body(self) -> bytes | None:
        """Return the next frame's body; None: they have closed the line."""
        while not self._bodies:
            data = self.socket.recv(1024 * 1024)
            if not data:
                return None
            self._bodies += self._stream.feed(data)
        return self._bodies.popleft()

    def wait_for_the_end(self) -> None:
        """Read until they have closed the line, or cut it."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1024 * 1024):
                pass

    def take(self) -> dict[str, Any]:
        """Return the next frame's value."""
        body = self.body()
        assert body is not None, "the line was closed"
        value: dict[str, Any] = frames.json_of(body)
        return value

    def ask(self, op: str, req_id: str = "r", **payload: Any) -> dict[str, Any]:
        """Make a request, and return the next answer."""
        self.send(request(op, req_id, **payload))
        return self.take()

    def refused(self, op: str, **payload: Any) -> str:
        """Make a request that must be refused; return the code."""
        found = self.ask(op, **payload)
        assert found["ok"] is False, found
        return str(found["error"]["code"])

    def result(self, op: str, **payload: Any) -> Any:
        """Make a request that must succeed; return its result."""
        found = self.ask(op, **payload)
        assert found["ok"] is True, found
        return found["result"]


def request(op: str, req_id: str = "r", **payload: Any) -> bytes:
    """Return the frame of a request."""
    return frames.encode_frame(frames.request(op, req_id, payload))


@dataclass
class Door:
    """The door, the services behind it, and agents that do as they are told."""

    house: House
    host: str
    port: int

    def wire(self) -> Wire:
        """Open a bare connection."""
        return Wire(self.host, self.port)

    def client(self, **more: Any) -> ShakeScenario:
        """Return a client."""
        return ShakeScenario(self.host, self.port, timeout=GIVEN_S, **more)

    def token_of(self, name: str, role: str = "user") -> str:
        """Return a token of another person."""
        return self.house.services.access.user_token(name, role)

    def submit(self, **more: Any) -> int:
        """Queue a job and return its id."""
        with self.wire() as wire:
            return int(wire.result("submit", **{**QUAKE, **more})["id"])

    def status(self, job: int) -> str:
        """Return what the door calls the state of a job."""
        with self.wire() as wire:
            return str(wire.result("get", id=job)["status"])

    def lease(self) -> LeaseGrant:
        """Have an agent take the next job."""
        return self.house.lease("node")[0]

    def started(self) -> LeaseGrant:
        """Have an agent take the next job and start its program."""
        grant = self.lease()
        self.report(grant, state=RunState.RUNNING)
        return grant

    def report(self, grant: LeaseGrant, **said: Any) -> None:
        """Report as the agent."""
        report = Report(grant.run, grant.attempt, **said)
        answer = self.house.services.leases.report(self.house.agent("node"), [report])[0]
        assert answer.error is None, answer

    def complete(self, grant: LeaseGrant, files: Mapping[str, bytes] | None = None) -> None:
        """Have a job end well, with files of it."""
        if files:
            self.house.put(self.house.bearer(grant), grant, files)
        self.report(grant, state=RunState.COMPLETED, exit_code=0)

    def fail(self, grant: LeaseGrant, why: str = "it broke") -> None:
        """Have a job fail."""
        self.report(grant, state=RunState.FAILED, error=Failure("program_failed", why))


@contextmanager
def served(folder: Path, **options: Any) -> Iterator[Door]:
    """Serve the door over the data of *folder* while the block lasts."""
    clock, listening = Clock(), threading.Event()
    place = Place(folder / "data", port=0, options=replace(OPTIONS, **options))
    with ready(place, on_listening=lambda _url: listening.set(), now=clock) as running:
        services = running.services
        admin = services.access.authenticate(services.admin_token_file.read_text().strip())
        house = House(services, clock, folder, admin)
        if not services.models.list(admin):
            house.model(name=MODEL)
        thread = threading.Thread(target=running.run, name="server")
        thread.start()
        try:
            assert listening.wait(30), "the server does not listen"
            host, _, port = running.doors["shakescenario"].rpartition(":")
            yield Door(house, host.strip("[]"), int(port))
        finally:
            running.stop()
            thread.join(30)
