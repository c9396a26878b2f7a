"""
The live feed over a plain WebSocket, ``/ws``: the same rooms and envelopes as over socket.io.

Messages are JSON objects. The first one is ``{type: "auth", token}``, answered by ``ready``; then
``subscribe {room, after?}`` (answered by ``subscribed`` when what was logged behind ``after`` has
been sent), ``unsubscribe {room}``, ``ping``. Everything with a ``/`` in its ``type`` is an event.

Promises: nothing is told before the token was found good; who sends nothing sensible, too much or
too large a message, or does not read, is sent away with a code that says why (`CODES`); the number
of connections is bounded. Nobody waits for a slow viewer; of who does not take the answers nothing
more is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from types import MappingProxyType
from typing import Any, Final

from anyio import to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from physicsrunner.errors import InvalidRequest, NotAuthenticated, PhysicsRunnerError, TooLarge
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.live import MAX_MESSAGE, asked_room
from physicsrunner.server.members import Member, Told, Why
from physicsrunner.server.problems import problem
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.wire import live

MAX_CONNECTIONS: Final = 2_000
AUTH_S: Final = 10.0  #: for the first message
CLOSE_S: Final = 2.0  #: for the other side to take note of the end
MAX_ERRORS: Final = 20  #: wrong messages of one connection
MAX_BEHIND: Final = 100  #: messages that a connection may be behind while it is listened to

BAD_MESSAGES: Final = 4400
NOT_AUTHENTICATED: Final = 4401
NO_AUTH_IN_TIME: Final = 4408
TOO_SLOW: Final = 4429
TOO_BIG: Final = 1009
RESTARTING: Final = 1012
TRY_LATER: Final = 1013

#: What each code of a close means.
CODES: Final = MappingProxyType(
    {
        BAD_MESSAGES: "too many messages that mean nothing",
        NOT_AUTHENTICATED: "no good token, or it has expired or was revoked",
        NO_AUTH_IN_TIME: "no auth message in time",
        TOO_SLOW: "the events were not read; connect again with after",
        TOO_BIG: "a message is too large",
        RESTARTING: "the server stops; connect again with after",
        TRY_LATER: "too many connections; try again later",
    }
)
_WHY: Final = {
    Why.SLOW: TOO_SLOW,
    Why.TOKEN: NOT_AUTHENTICATED,
    Why.STOPPING: RESTARTING,
}
_WORDS: Final = "ws"


class Sockets:
    """The ``/ws`` door of one server."""

    def __init__(self, access: AccessService, rooms: Rooms) -> None:
        self._access = access
        self._rooms = rooms
        self._open: set[WebSocket] = set()
        self._stopping = False

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection to its end."""
        await socket.accept()
        if self._stopping or len(self._open) >= MAX_CONNECTIONS:
            await end(socket, RESTARTING if self._stopping else TRY_LATER)
            return
        self._open.add(socket)
        try:
            await self._serve(socket)
        except (WebSocketDisconnect, KeyError, RuntimeError, OSError):
            return  # the other side has gone, perhaps while we wrote
        finally:
            self._open.discard(socket)

    async def close(self) -> None:
        """Send away who has not said yet who they are, and let nobody in."""
        self._stopping = True
        await asyncio.gather(*(end(socket, RESTARTING) for socket in list(self._open)))

    async def _serve(self, socket: WebSocket) -> None:
        try:
            identity = await asyncio.wait_for(self._authenticated(socket), AUTH_S)
        except asyncio.TimeoutError:
            await end(socket, NO_AUTH_IN_TIME)
            return
        except TooLarge:
            await end(socket, TOO_BIG)
            return
        except PhysicsRunnerError as error:
            await socket.send_text(StrictJson.dumps(refused(error)))
            await end(socket, NOT_AUTHENTICATED)
            return
        member = Listener(identity, socket)
        await converse(self._rooms, member, _Reader(self._rooms, member, socket).read())

    async def _authenticated(self, socket: WebSocket) -> Identity:
        message = parsed(await socket.receive_text())
        token = message.get("token")
        if message.get("type") != "auth" or not isinstance(token, str):
            raise NotAuthenticated('the first message is {"type": "auth", "token": ...}')
        origin = socket.client.host if socket.client is not None else None
        return await to_thread.run_sync(self._access.authenticate, token, origin)


async def converse(rooms: Rooms, member: Listener, read: Coroutine[Any, Any, None]) -> None:
    """Have *member* told what it listens to, and *read* what it says, until one of them ends."""
    rooms.join(member)
    tasks: set[asyncio.Task[Any]] = {
        asyncio.create_task(member.write()),
        asyncio.create_task(read),
        asyncio.create_task(member.ended.wait()),
    }
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        rooms.leave(member)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await end(member.socket, member.code)


class _Reader:
    """Takes what one connection asks for, one after the other."""

    def __init__(self, rooms: Rooms, member: Listener, socket: WebSocket) -> None:
        self._rooms = rooms
        self._member = member
        self._socket = socket
        self._errors = 0

    async def read(self) -> None:
        self._member.say({"type": "ready", "subject": self._member.identity.subject})
        while True:
            try:
                message = parsed(await self._member.hear())
                self._member.say(await self._answer(message))
            except TooLarge:
                self._member.code = TOO_BIG
                return
            except PhysicsRunnerError as error:
                self._errors += 1
                self._member.say(refused(error))
                if self._errors > MAX_ERRORS:
                    self._member.code = BAD_MESSAGES
                    return
            except (WebSocketDisconnect, KeyError):
                return  # it hung up, or sent bytes that are no text

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        kind = message.get("type")
        if kind == "ping":
            return {"type": "pong"}
        if kind == live.SUBSCRIBE:
            room, after = asked_room(message)
            try:
                return {
                    "type": "subscribed",
                    "room": await self._rooms.enter(self._member, room, after),
                }
            except PhysicsRunnerError as error:
                return {**refused(error), "room": room}
        if kind == live.UNSUBSCRIBE:
            room, _ = asked_room(message)
            self._rooms.exit(self._member, room)
            return {"type": live.UNSUBSCRIBED, "room": room}
        raise InvalidRequest("type is one of subscribe, unsubscribe, ping")


class Listener(Member):
    """One connection of ``/ws``."""

    def __init__(self, identity: Identity, socket: WebSocket) -> None:
        super().__init__(identity)
        self.code = 1000
        self.ended = asyncio.Event()
        self.socket = socket
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._read = asyncio.Event()

    async def write(self) -> None:
        """Send what is queued, until cancelled."""
        while True:
            await self.socket.send_text(await self._queue.get())
            if self.waiting() < MAX_BEHIND:
                self._read.set()

    async def hear(self) -> str:
        """Return what it says next; not before it has read most of what waits."""
        while self.waiting() >= MAX_BEHIND:  # its answers would pile up here
            self._read.clear()
            await self._read.wait()
        return await self.socket.receive_text()

    def tell(self, told: Told) -> None:
        """Queue the event, in words that are made once for all connections."""
        text = told.words.get(_WORDS)
        if text is None:
            text = told.words[_WORDS] = StrictJson.dumps(told.envelope, separators=(",", ":"))
        self.put(text)

    def put(self, text: str) -> None:
        """Queue a message that is in words already."""
        self._queue.put_nowait(text)

    def command(self, data: dict[str, Any]) -> None:
        """Queue a command."""
        self.say({"type": live.COMMAND, **data})

    def left(self, room: str, error: PhysicsRunnerError) -> None:
        """Queue that a room was left."""
        self.say({"type": live.UNSUBSCRIBED, "room": room, "error": problem(error)})

    def say(self, message: dict[str, Any]) -> None:
        """Queue any message."""
        self.put(StrictJson.dumps(message, separators=(",", ":")))

    def waiting(self) -> int:
        """Return how many messages have not been sent yet."""
        return self._queue.qsize()

    async def send_away(self, why: Why) -> None:
        """End the connection; what is queued is not sent any more."""
        self.code = _WHY[why]
        while not self._queue.empty():
            self._queue.get_nowait()
        self.ended.set()


def parsed(text: str) -> dict[str, Any]:
    """Return the JSON object that a message is."""
    if len(text) > MAX_MESSAGE:
        raise TooLarge(f"a message is at most {MAX_MESSAGE} bytes long")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("a message is a JSON object with a type") from None
    if not isinstance(message, dict):
        raise InvalidRequest("a message is a JSON object with a type")
    return message


async def end(socket: WebSocket, code: int) -> None:
    """Close the connection, without waiting long for the other side."""
    if socket.application_state is WebSocketState.DISCONNECTED:
        return
    if socket.client_state is WebSocketState.DISCONNECTED:
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError):
        await asyncio.wait_for(socket.close(code, CODES.get(code)), CLOSE_S)


def refused(error: PhysicsRunnerError) -> dict[str, Any]:
    """Return what is said to who asked for what cannot be."""
    return {"type": "error", "error": problem(error)}
