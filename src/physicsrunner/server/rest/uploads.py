"""Inputs, known by their content: a file is sent once, however many runs use it."""

from __future__ import annotations

import re
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.errors import DigestMismatch, InvalidRequest
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, stored
from physicsrunner.server.downloads import file_response
from physicsrunner.server.openapi import gives, gives_bytes, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest

router = APIRouter(tags=["files"])

Creator = Annotated[Identity, Allowed("inputs:create")]
Reader = Annotated[Identity, Allowed("inputs:read")]

_PATH = f"{rest.UPLOADS}/{{sha256}}"
_EXAMPLE = {"sha256": "ab12" + "0" * 60, "size": 1048576}


def _checked(sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InvalidRequest("an input is named by its SHA-256 in 64 small hexadecimal digits")
    return sha256


@router.put(
    _PATH,
    summary="Send an input",
    openapi_extra=takes(bytes, media="application/octet-stream"),
    responses=gives({"sha256": str, "size": int}, _EXAMPLE),
)
async def put(request: Request, sha256: str, who: Creator, parts: Shared) -> Response:
    """Store the body, whose SHA-256 the address names. Sending it again is success."""
    _checked(sha256)
    with parts.bodies.one():
        parts.services.access.require(who, "inputs:create")
        async with stored(request, parts.services.scratch) as body:
            if body.sha256 != sha256:
                raise DigestMismatch(f"the body's SHA-256 is {body.sha256}, not {sha256}")
            store = parts.services.runs.store_input
            await to_thread.run_sync(store, who, sha256, body.path)
            return answer({"sha256": sha256, "size": body.size})


async def get(
    request: Request,
    sha256: str,
    who: Reader,
    parts: Shared,
    run: Annotated[str | None, Query(description="A run that uses it")] = None,
) -> Response:
    """Fetch an input (GET), or ask whether it is there (HEAD). Ranges work.

    Who has not sent it names a run that uses it.
    """
    _checked(sha256)

    def find() -> Response:
        path = parts.services.runs.input_path(who, sha256, run)
        return file_response(request, path, name=sha256, sha256=sha256)

    return await to_thread.run_sync(find)


router.get(_PATH, summary="Fetch an input", response_class=Response, responses=gives_bytes())(get)
router.head(
    _PATH,
    summary="Ask for an input",
    name="head_input",
    response_class=Response,
    responses=gives_bytes(text="The headers alone"),
)(get)
