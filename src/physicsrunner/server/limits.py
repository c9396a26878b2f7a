"""
Limits of request bodies, refused before the body is read.

Promises: a request whose Content-Length is over its limit is answered with 413 and nothing of its
body reaches a handler; a body without Content-Length is counted while it streams and cut at the
limit. Limits count the bytes on the line; what compressed bodies grow to is `intake`'s to limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from physicsrunner.errors import InvalidRequest, TooLarge
from physicsrunner.server.problems import problem_response
from physicsrunner.wire import rest

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# A sender that is in the middle of its body sees our answer only when it has stopped writing or
# we keep reading for a while; closing at once would reset the connection under the answer.
LINGER_BYTES: Final = 4 * MIB
#: What lies below takes messages only, and reads them whole.
_MESSAGES: Final = (rest.API, "/ath/")
#: And here small ones: names of designs and people, a message to who listens.
_SMALL: Final = "/architech/"
#: What anybody may call who has no token yet, and has a body that is read.
_OPEN: Final = (
    rest.LOGIN,
    *(
        f"/physicsworks{prefix}/auth/{call}"
        for prefix in ("/api", "")
        for call in ("login", "v1/refresh_token")
    ),
)


@dataclass(frozen=True)
class Limits:
    """The most that one request may carry, in bytes."""

    open: int = 16 * KIB  #: a request that needs no token: a name and a password, a token
    small: int = 1 * MIB  #: a message without data
    json: int = 32 * MIB  #: a message: reports with results, a parameter set, a small mesh
    batch: int = 128 * MIB  #: many runs in one request
    bundle: int = 2 * GIB  #: a model's zip
    upload: int = 1024 * GIB  #: one input file
    frame: int = 1024 * GIB  #: raw bytes of one sync frame
    door: int = 64 * GIB  #: one request of a foreign wire (multipart uploads)

    def of(self, path: str) -> int:
        """Return the limit of a request to *path*."""
        if path == rest.SYNC:
            return self.frame
        if path in _OPEN:
            return self.open
        if path.startswith(f"{rest.UPLOADS}/"):
            return self.upload
        if path == rest.BATCH:
            return self.batch
        if path == rest.MODELS:
            return self.bundle
        if path.startswith(_SMALL):
            return self.small
        return self.json if path.startswith(_MESSAGES) else self.door


class BodyLimits:
    """ASGI middleware that holds `Limits`."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or count while the body streams."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.of(scope["path"])
        error = _refusal(scope, limit)
        if error is not None:
            await _refuse(error, scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(f"the body is over the limit of {limit} bytes")
            return message

        await self.app(scope, counted, send)


def _refusal(scope: Scope, limit: int) -> InvalidRequest | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not re.fullmatch(rb"\d{1,18}", value):
                return InvalidRequest("Content-Length is not a number")
            if int(value) > limit:
                return TooLarge(f"a body of {int(value)} bytes is over the limit of {limit} bytes")
    return None


async def _refuse(error: InvalidRequest, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, then read on a little so that the sender gets to see the answer."""
    response = problem_response(error, headers={"connection": "close"})
    expects = any(name == b"expect" for name, _ in scope["headers"])

    async def lingering(message: Message) -> None:
        if message["type"] != "http.response.body" or expects:
            await send(message)
            return
        await send({**message, "more_body": True})
        left = LINGER_BYTES
        while left > 0:
            received = await receive()
            if received["type"] != "http.request" or not received.get("more_body"):
                break
            left -= len(received.get("body", b""))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    await response(scope, receive, lingering)
