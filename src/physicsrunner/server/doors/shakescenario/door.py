"""
The ShakeScenario door of one server: its connections, and who may ask for what on them.

Promises: whoever asks is one of our people, by a token in the payload, by that of the operation
``auth``, or, where both ends of the line are this machine's and the setting ``door_user`` names
somebody, as that person. Services are called in worker threads; the event loop waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Final, cast

from anyio import CapacityLimiter, to_thread

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import TERMINAL
from physicsrunner.errors import InvalidRequest, NotAuthenticated
from physicsrunner.server.bodies import dumps
from physicsrunner.server.doors.local import DoorAccess, is_loopback
from physicsrunner.server.doors.shakescenario.line import PONG, Line, Patience
from physicsrunner.server.doors.shakescenario.operations import Operations, Payload, seconds_of
from physicsrunner.server.doors.shakescenario.room import Room
from physicsrunner.server.parts import Parts
from physicsrunner.service.access import Identity
from physicsrunner.wire import frames
from physicsrunner.wire.frames import BadRequest, Request

MAX_LINES: Final = 512  #: connections at once
THREADS: Final = 8  #: operations that are carried out at once
LOOK_S: Final = 1.0  #: between two looks at connections that keep us waiting
GAP_S: Final = 0.2  #: between two looks at a job that somebody waits for
_NEEDED: Final = "a token is needed here: as token in the payload, or first by the operation auth"

_LOG = logging.getLogger(__name__)


class Door:
    """Made on the event loop of the server."""

    def __init__(self, parts: Parts, patience: Patience | None = None) -> None:
        self.lines: set[Line] = set()
        self._parts = parts
        self._patience = patience or Patience()
        self._access = DoorAccess(parts.services)
        self._operations = Operations(parts.services)
        self._threads = CapacityLimiter(THREADS)
        self._room = Room()
        self._user = parts.services.options.local_user

    def line(self) -> asyncio.BaseProtocol:
        """Return what serves one new connection."""
        if len(self.lines) >= MAX_LINES:
            return _TooMany()
        made = Line(self._carry_out, self.lines.discard, self._is_open, self._patience, self._room)
        self.lines.add(made)
        return made

    async def look(self) -> None:
        """Cut off who keeps us waiting, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for line in list(self.lines):
                line.look()

    async def finish(self) -> None:
        """End all connections; what is under way has a moment to end."""
        await asyncio.gather(*(line.finish() for line in list(self.lines)))

    def _is_open(self, peer: str, local: str) -> bool:
        return self._user is not None and is_loopback(peer) and is_loopback(local)

    async def _carry_out(
        self, line: Line, request: Request, turn: contextlib.AsyncExitStack
    ) -> bytes:
        """Return the result of *request* as JSON."""
        payload = dict(request.payload)
        token = _text(payload.pop("token", None))
        if request.op == "auth":
            return await self._auth(line, token)
        who = await self._who(line, token)
        if request.op == "ping":
            return PONG
        if request.op == "wait":
            who = await self._wait(line, token, payload)
            await turn.enter_async_context(line.turn())  # words of many would pile up unread
            return await self._do("get", who, payload)
        if request.op not in self._operations:
            raise BadRequest(
                frames.UNKNOWN_OP, f"there is no operation {request.op[:40]!r}: see the document"
            )
        return await self._do(request.op, who, payload)

    async def _do(self, name: str, who: Identity, payload: Payload) -> bytes:
        return await to_thread.run_sync(
            lambda: dumps(self._operations.carry_out(name, who, payload)), limiter=self._threads
        )

    async def _auth(self, line: Line, token: str | None) -> bytes:
        if token is None:
            raise InvalidRequest("token is missing")
        who = await self._who(line, token)
        line.token = token
        line.known(for_all=True)
        return dumps({"user": who.subject, "role": who.role})

    async def _who(self, line: Line, token: str | None) -> Identity:
        """Return who asks, by the *token* of the payload or else by what the line has."""
        shown = token or line.token
        if shown is None and not self._is_open(line.peer, line.local):
            raise NotAuthenticated(_NEEDED)
        who = await self._access.of_line(shown, line.peer, line.local)
        line.known(for_all=token is None)
        return who

    async def _wait(self, line: Line, token: str | None, payload: Payload) -> Identity:
        """Wait until a job has ended, or for as long as is asked; return who asks."""
        seconds, loop = seconds_of(payload), asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds

        async def look() -> tuple[Identity, RunSummary]:
            who = await self._who(line, token)  # their token may have been revoked meanwhile
            run = await to_thread.run_sync(
                self._operations.found_short, who, payload, limiter=self._threads
            )
            return who, run

        who, run = await look()
        with self._parts.hub.watch(run.id) as changed:
            while run.status not in TERMINAL and not self._parts.hub.closed:
                changed.clear()
                looked_at = loop.time()
                who, run = await look()  # after `watch`, or what came between would be missed
                left = None if until is None else until - loop.time()
                if run.status in TERMINAL or (left is not None and left <= 0):
                    break
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)
                # Of a program that tells much, each line is not a look.
                await asyncio.sleep(max(0.0, looked_at + GAP_S - loop.time()))
        return who


class _TooMany(asyncio.Protocol):
    """A connection more than there may be: it is told so."""

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", base)  # uvloop's is none by name
        why = f"the server has {MAX_LINES} connections and takes no more: try again later"
        transport.write(frames.encode_frame(frames.refusal(None, "TOO_MANY_CONNECTIONS", why)))
        transport.close()


def _text(token: object) -> str | None:
    if token is not None and (not isinstance(token, str) or not token):
        raise InvalidRequest("token is a text")
    return token


@contextlib.asynccontextmanager
async def served(door: Door, listener: socket.socket) -> AsyncIterator[None]:
    """Serve connections to *listener* while the block lasts."""
    server = await asyncio.get_running_loop().create_server(door.line, sock=listener)
    looking = asyncio.create_task(door.look())
    try:
        yield
    finally:
        server.close()
        looking.cancel()
        await asyncio.gather(door.finish(), looking, return_exceptions=True)
        await server.wait_closed()
