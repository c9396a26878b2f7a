"""
Bodies of requests on this wire. Promises: one over its limit is refused before it is read.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request

from physicsrunner.errors import InvalidRequest, TooLarge
from physicsrunner.server.bodies import parsed_body

MAX_JSON: Final = 32 * 1024 * 1024  # bytes: the document of a run with many thousand files


def declared_length(request: Request) -> int:
    """Return the length that the request says its body has; 0 when it does not say."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def body_of(request: Request, limit: int) -> bytes:
    """Return the request's body; refuse it as soon as it is over *limit* bytes."""
    declared = declared_length(request)
    if declared > limit:
        raise TooLarge(f"a body of {declared} bytes is over the limit of {limit}")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body is over the limit of {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def object_of(request: Request) -> dict[str, Any]:
    """Return the JSON object that the body is; an empty body is an empty one."""
    value = await parsed_body(await body_of(request, MAX_JSON))
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object")
    return value
