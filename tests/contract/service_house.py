"""A service layer in a temporary folder, with a clock that tests set, and short ways to use it."""

from __future__ import annotations

import hashlib
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from physicsrunner.core.run import NewRun
from physicsrunner.service.access import Identity
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import Services, build
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import LeaseGrant, LeaseRequest, Resources, SyncOp, SyncResult

START = 1_700_000_000.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, time: float = START) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += seconds


def sha(data: bytes) -> str:
    """Return the SHA-256 of *data* in hex."""
    return hashlib.sha256(data).hexdigest()


def make_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a zip of *files* to *path*."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@dataclass
class House:
    """Services, the admin, and what the feed has told."""

    services: Services
    clock: Clock
    folder: Path
    admin: Identity
    told: list[Event] = field(default_factory=list)
    agents: dict[str, Identity] = field(default_factory=dict)  #: identities that a test keeps

    def user(self, name: str, role: str = "user") -> Identity:
        token = self.services.access.user_token(name, role)
        return self.services.access.authenticate(token)

    def agent(self, name: str) -> Identity:
        return self.services.access.authenticate(self.services.access.agent_token(name))

    def bearer(self, grant: LeaseGrant) -> Identity:
        return self.services.access.authenticate(grant.token)

    def model(self, files: Mapping[str, str | bytes] | None = None, name: str = "demo") -> str:
        packed = make_zip(self.folder / f"{uuid.uuid4().hex}.zip", files or {"main.py": "print(1)"})
        return self.services.models.add(self.admin, packed, name).id

    def claimed(self, name: str = "run") -> tuple[LeaseGrant, Identity]:
        """Return a run that the admin claimed, and the identity of its attempt's token."""
        _, grant = self.services.runs.claim(self.admin, NewRun(name=name), "host")
        return grant, self.bearer(grant)

    def lease(self, agent: str = "agent-1", **free: float) -> list[LeaseGrant]:
        room = Resources(cpu_cores=free.get("cpu_cores", 4.0), memory_gb=free.get("memory_gb", 8.0))
        request = LeaseRequest(agent, free=room, max=int(free.get("max", 1)))
        return self.services.leases.acquire(self.agent(agent), request)

    def sync(
        self,
        identity: Identity,
        ops: Sequence[SyncOp],
        *pieces: bytes,
    ) -> list[SyncResult]:
        """Send one frame and return its results."""
        writer = self.services.files.open_frame(identity, ops)
        for piece in pieces:
            writer.feed(piece)
        return writer.finish()

    def put(self, identity: Identity, grant: LeaseGrant, files: Mapping[str, bytes]) -> None:
        """Send and seal *files* in one frame."""
        ops: list[SyncOp] = []
        for path, data in files.items():
            ops += whole(grant, path, data)
        results = self.sync(identity, ops, b"".join(files.values()))
        assert [result.error for result in results] == [None] * len(ops)

    def types(self) -> list[str]:
        """Return the types of the events of runs that were told, the first first."""
        return [event.type for event in self.told if event.run is not None]


def append(grant: LeaseGrant, path: str, offset: int, length: int) -> SyncOp:
    return SyncOp(grant.run, grant.attempt, path, "append", offset=offset, length=length)


def write(grant: LeaseGrant, path: str, offset: int, length: int) -> SyncOp:
    return SyncOp(grant.run, grant.attempt, path, "write", offset=offset, length=length)


def seal(grant: LeaseGrant, path: str, data: bytes) -> SyncOp:
    return SyncOp(grant.run, grant.attempt, path, "seal", size=len(data), sha256=sha(data))


def whole(grant: LeaseGrant, path: str, data: bytes) -> list[SyncOp]:
    return [append(grant, path, 0, len(data)), seal(grant, path, data)]


def open_house(
    folder: Path,
    *,
    url: str | None = None,
    start: float = START,
    options: ServerOptions | None = None,
) -> House:
    """Open services in *folder*; their caller closes them."""
    clock = Clock(start)
    services = build(folder / "data", url=url, now=clock, options=options)
    try:
        admin = services.access.authenticate(services.admin_token_file.read_text().strip())
    except BaseException:
        services.close()
        raise
    house = House(services, clock, folder, admin)
    services.feed.subscribe(house.told.extend)
    return house


def errors(results: Iterable[SyncResult]) -> list[str | None]:
    """Return the errors of *results*."""
    return [result.error for result in results]
