"""
The calls of the PhysicsWorks wire: decode, one call into the door's parts, encode.

Promises: the header ``auth-token`` is needed everywhere; a body over its limit is refused before
it is read, and a large form lies in a file while it is decoded; all work is done in worker threads.
An attempt's token that has expired is exchanged for the caller, because this wire has no way to
hand out a fresh one.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from physicsrunner.core.run import InputFile
from physicsrunner.errors import InvalidRequest, NotAllowed, NotFound, TokenExpired, TooLarge
from physicsrunner.server.auth import Permission, authenticated, origin_of
from physicsrunner.server.bodies import answer, stored
from physicsrunner.server.doors.physicsworks.files import DoorFiles
from physicsrunner.server.doors.physicsworks.forms import Payload, read_form
from physicsrunner.server.doors.physicsworks.inputs import run_inputs
from physicsrunner.server.doors.physicsworks.runs import DoorRuns
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.physicsworks import AUTH_HEADER, MAX_FORM, decode_form

MAX_JSON: Final = 32 * 1024 * 1024  # bytes: the document of a run with many thousand files
_PIECE: Final = 1024 * 1024
_DECODING: Final = 4  # forms that are decoded at once: each holds some times its size


def router(services: Services) -> APIRouter:
    """Return the routes of this door, to be included below ``/physicsworks``."""
    door = _Door(services)
    routes = APIRouter()

    async def identified(request: Request) -> Identity:
        return await _caller(services.access, request)

    def add(path: str, call: Callable[..., Any], method: str, permission: str) -> None:
        # What it hands on, `_who` gives to the handler.
        allowed = Permission(permission, identified).check

        async def known(request: Request, who: Identity) -> None:
            request.state.caller = who

        known.__annotations__["who"] = Annotated[Identity, Depends(allowed)]
        routes.add_api_route(path, call, methods=[method], dependencies=[Depends(known)])

    add("/simulation/run_data/read/{project}/{simulation}", door.run_data, "GET", "runs:read")
    add("/simulation/run/update/{simulation}", door.create, "PUT", "reports:write")
    add("/simulation/run/update/{simulation}/{run}", door.node, "PUT", "reports:write")
    add("/simulation/run/patch/{run}", door.patch, "PUT", "reports:write")
    add("/storage/runner/{file}", door.stored, "GET", "models:read")
    add("/storage/append", door.append, "POST", "files:write")
    add("/storage/chunks", door.chunk, "POST", "files:write")
    return routes


async def _caller(access: AccessService, request: Request) -> Identity:
    """Return who calls by the header of this wire; an attempt's expired token is exchanged."""
    token, origin = request.headers.get(AUTH_HEADER), origin_of(request)
    try:
        return await authenticated(access, token, origin)
    except TokenExpired as expired:
        try:
            fresh = await to_thread.run_sync(access.exchange, token or "")
        except NotAllowed:
            raise expired from None  # a person's
        return await authenticated(access, fresh, origin)


def _who(request: Request) -> Identity:
    found: Identity = request.state.caller
    return found


Caller = Annotated[Identity, Depends(_who)]


class _Door:
    """The handlers, and what they share."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._files = DoorFiles(services)
        self._runs = DoorRuns(services, self._files, flatten=run_inputs)
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
        body = await _json(request)
        return await to_thread.run_sync(lambda: answer(self._runs.node(who, run, body)))

    async def patch(self, run: str, request: Request, who: Caller) -> Response:
        """Change parts of the run document."""
        body = await _json(request)
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
        if not large_too or _length(request) <= MAX_FORM:
            body = await _body(request, MAX_FORM)
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


def _length(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def _body(request: Request, limit: int) -> bytes:
    """Return the request's body; refuse it as soon as it is over *limit* bytes."""
    declared = _length(request)
    if declared > limit:
        raise TooLarge(f"a body of {declared} bytes is over the limit of {limit}")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body is over the limit of {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def _json(request: Request) -> dict[str, Any]:
    body = await _body(request, MAX_JSON)
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object")
    return value
