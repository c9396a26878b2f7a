"""
The calls of the PhysicsWorks wire: decode, one call into the door's parts, encode.

Promises: the header ``auth-token`` is needed everywhere; a body over its limit is refused before
it is read, and a large form lies in a file while it is decoded; all work is done in worker threads.
These are the runner's calls; those of the API client are in `api_routes`.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from physicsrunner.core.run import InputFile
from physicsrunner.errors import InvalidRequest, NotFound
from physicsrunner.server.bodies import answer, stored
from physicsrunner.server.doors.physicsworks.api_routes import ClientPart, add_client_part
from physicsrunner.server.doors.physicsworks.bodies import body_of, declared_length, object_of
from physicsrunner.server.doors.physicsworks.callers import identify
from physicsrunner.server.doors.physicsworks.files import DoorFiles
from physicsrunner.server.doors.physicsworks.forms import Payload, read_form
from physicsrunner.server.doors.physicsworks.inputs import run_inputs
from physicsrunner.server.doors.physicsworks.runs import DoorRuns
from physicsrunner.server.doors.routing import Caller, Identify, allowed
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.physicsworks import MAX_FORM, decode_form

#: Hosts of the published client end with the first; what main.py is told is its host does not,
#: and it may use that client, too. Runners may have either.
PREFIXES: Final = ("/api", "")
_PIECE: Final = 1024 * 1024
_DECODING: Final = 4  # forms that are decoded at once: each holds some times its size


def router(services: Services) -> APIRouter:
    """Return the routes of this door, to be included below ``/physicsworks``."""
    identified = identify(services)
    files = DoorFiles(services)
    runs = DoorRuns(services, files, flatten=run_inputs)
    door = _Door(services, files, runs)
    routes = APIRouter()
    for prefix in PREFIXES:
        add_client_part(routes, prefix, ClientPart(services, files), identified)
        _add_runner_part(routes, prefix, door, identified)
    return routes


def _add_runner_part(routes: APIRouter, prefix: str, door: _Door, identified: Identify) -> None:
    def add(path: str, call: Callable[..., Any], method: str, permission: str) -> None:
        guard = allowed(permission, identified)
        routes.add_api_route(prefix + path, call, methods=[method], dependencies=[guard])

    add("/simulation/run_data/read/{project}/{simulation}", door.run_data, "GET", "runs:read")
    add("/simulation/run/update/{simulation}", door.create, "PUT", "reports:write")
    add("/simulation/run/update/{simulation}/{run}", door.node, "PUT", "reports:write")
    add("/simulation/run/patch/{run}", door.patch, "PUT", "reports:write")
    add("/storage/runner/{file}", door.stored, "GET", "models:read")
    add("/storage/append", door.append, "POST", "files:write")
    add("/storage/chunks", door.chunk, "POST", "files:write")


class _Door:
    """The handlers, and what they share."""

    def __init__(self, services: Services, files: DoorFiles, runs: DoorRuns) -> None:
        self._services = services
        self._files = files
        self._runs = runs
        self._decoding: CapacityLimiter | None = None

    # Handlers without ``async`` run in the thread pool.

    def run_data(self, project: str, simulation: str, who: Caller) -> Response:  # noqa: ARG002
        """Say what a runner is to do."""
        return answer(self._runs.run_data(who, simulation))

    def create(self, simulation: str, who: Caller) -> Response:
        """Create a run that the caller carries out, or return the one of its attempt."""
        return answer(self._runs.create(who, simulation))

    async def node(self, simulation: str, run: str, request: Request, who: Caller) -> Response:  # noqa: ARG002
        """Take how far a main.py says it is."""
        body = await object_of(request)
        return await to_thread.run_sync(lambda: answer(self._runs.node(who, run, body)))

    async def patch(self, run: str, request: Request, who: Caller) -> Response:
        """Change parts of the run document."""
        body = await object_of(request)
        return await to_thread.run_sync(lambda: answer(self._runs.patch(who, run, body)))

    def stored(self, file: str, who: Caller) -> Response:
        """Give the bytes of a bundle, a mesh or an archive of inputs."""
        kind, _, rest = file.partition("-")
        if kind == "scripts" and rest.endswith(".zip"):
            model, _, version = rest.removesuffix(".zip").rpartition("-")
            return FileResponse(self._services.models.bundle(who, model, version))
        if kind == "inputs" and rest.endswith(".zip"):
            return self._archive(who, self._runs.archive(who, rest.removesuffix(".zip")))
        sha256 = file.partition(".")[0]
        if len(sha256) == 64:
            return FileResponse(self._services.runs.input_path(who, sha256))
        raise NotFound(f"there is no stored file {file!r}")

    async def append(self, request: Request, who: Caller) -> Response:
        """Add bytes to a log, plot or medium."""
        return await self._form(request, who, self._files.append, large_too=True)

    async def chunk(self, request: Request, who: Caller) -> Response:
        """Write one chunk of a result file."""
        return await self._form(request, who, self._files.chunk)

    async def _form(
        self,
        request: Request,
        identity: Identity,
        carry_out: Callable[..., None],
        *,
        large_too: bool = False,
    ) -> Response:
        def work(fields: Mapping[str, Any], data: Payload) -> Response:
            metadata = fields.get("metadata")
            run = metadata.get("resource") if isinstance(metadata, Mapping) else None
            if identity.kind != "attempt" and not isinstance(run, str):
                raise InvalidRequest("the form's metadata has no text 'resource': the run's id")
            carry_out(self._runs.place(identity, str(run)), fields, data)
            return answer({"filename": fields.get("filename")})

        def small(body: bytes) -> Response:
            fields, data = decode_form(body)
            return work(fields, Payload(len(data), data))

        def large(path: Path) -> Response:
            scratch = self._services.scratch
            with path.open("rb") as source, tempfile.TemporaryFile(dir=scratch) as target:
                return work(*read_form(source, target))

        if self._decoding is None:
            self._decoding = CapacityLimiter(_DECODING)
        if not large_too or declared_length(request) <= MAX_FORM:
            body = await body_of(request, MAX_FORM)
            return await to_thread.run_sync(small, body, limiter=self._decoding)
        async with stored(request, self._services.scratch) as whole:
            return await to_thread.run_sync(large, whole.path, limiter=self._decoding)

    def _archive(self, identity: Identity, inputs: list[InputFile]) -> Response:
        """Give the inputs as one zip, made in a file that is gone when it is closed."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_drain`
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for item in inputs:
                archive.write(self._services.runs.input_path(identity, item.sha256), item.path)
        length = file.tell()
        file.seek(0)
        headers = {"Content-Length": str(length)}
        return StreamingResponse(_drain(file), headers=headers, media_type="application/zip")


def _drain(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece
