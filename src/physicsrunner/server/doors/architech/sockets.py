"""
The WebSocket of the architech door, ``/architech/ws/{client_id}``.

The token comes as ``Authorization: Bearer``, as ``?token=``, or in the first message,
``{"token": ...}``; where the operator has named somebody for this machine, none is needed there.
Then ``{"subscribe": ID}`` (``after``: an event's id, for those behind it first),
``{"unsubscribe": ID}`` and ``{"ping": ...}``; each is answered.

Promises: nothing is told before it is known who listens, and to nobody what they may not read; who
does not read is sent away and waited for by nobody; a page of elsewhere gets in by a token alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from anyio import to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    PhysicsRunnerError,
    ServerUnavailable,
    TooLarge,
)
from physicsrunner.server.doors.architech.clients import Client, Clients, in_words
from physicsrunner.server.doors.architech.documents import simulation_run
from physicsrunner.server.doors.local import DoorAccess, bearer
from physicsrunner.server.live import asked_room
from physicsrunner.server.parts import Parts
from physicsrunner.server.rooms import Rooms
from physicsrunner.server.ws import (
    AUTH_S,
    BAD_MESSAGES,
    MAX_CONNECTIONS,
    MAX_ERRORS,
    NO_AUTH_IN_TIME,
    NOT_AUTHENTICATED,
    RESTARTING,
    TOO_BIG,
    TRY_LATER,
    converse,
    end,
    parsed,
    refused,
)
from physicsrunner.service.designs import MAX_ID, checked_id
from physicsrunner.service.identity import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire import live

ID_TAKEN: Final = 4409  #: the client's id is another person's
MAX_PING: Final = 1024  #: characters of JSON that a pong repeats


class ClientSockets:
    """The WebSockets of one server's architech door."""

    def __init__(self, services: Services, clients: Clients) -> None:
        self._services = services
        self._access = DoorAccess(services)
        self._clients = clients
        self._open = 0

    async def serve(self, socket: WebSocket, client_id: str) -> None:
        """Serve one connection to its end."""
        parts: Parts = socket.app.state.parts
        await socket.accept()
        if parts.hub.closed or self._open >= MAX_CONNECTIONS:
            await end(socket, RESTARTING if parts.hub.closed else TRY_LATER)
            return
        self._open += 1
        try:
            await self._serve(socket, client_id, parts.rooms)
        except (WebSocketDisconnect, KeyError, RuntimeError, OSError):
            return  # the other side has gone, perhaps while we wrote
        finally:
            self._open -= 1

    async def _serve(self, socket: WebSocket, client_id: str, rooms: Rooms) -> None:
        try:
            name = checked_id("client_id", client_id)
            identity = await asyncio.wait_for(self._identity(socket), AUTH_S)
            client = Client(identity, socket, name)
            self._clients.add(client)
        except asyncio.TimeoutError:
            await end(socket, NO_AUTH_IN_TIME)
            return
        except PhysicsRunnerError as error:
            await socket.send_text(in_words(refused(error)))
            await end(socket, _code(error))
            return
        try:
            await converse(rooms, client, _Reader(self, rooms, client).read())
        finally:
            self._clients.remove(client)

    async def _identity(self, socket: WebSocket) -> Identity:
        token = socket.query_params.get("token")
        try:
            return await self._access.of_request(socket, token=token)
        except NotAuthenticated as error:
            if token is not None or bearer(socket.headers) is not None:
                raise
            needed = str(error)
        message = parsed(await socket.receive_text())
        if "token" not in message:
            raise NotAuthenticated(f'{needed}, or first the message {{"token": ...}}')
        return await self.by_token(socket, message)

    async def by_token(self, socket: WebSocket, message: dict[str, Any]) -> Identity:
        """Return who bears the token that a message brings."""
        token = message["token"]
        if not isinstance(token, str) or not token:
            raise NotAuthenticated("token is a text")
        return await self._access.of_request(socket, token=token)

    async def rename(self, client: Client, message: dict[str, Any]) -> None:
        """Have *client*, let in as the person of this machine, be who its token says."""
        identity = await self.by_token(client.socket, message)
        self._clients.remove(client)
        client.identity = identity
        self._clients.add(client)

    def run(self, client: Client, run: str) -> dict[str, Any]:
        """Return the run that *client* has begun to hear of."""
        return simulation_run(self._services.runs.get(client.identity, run))


class _Ended(Exception):
    """A message ends its connection."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Reader:
    """Takes what one client asks for, one thing after the other."""

    def __init__(self, door: ClientSockets, rooms: Rooms, client: Client) -> None:
        self._door = door
        self._rooms = rooms
        self._client = client
        self._errors = 0
        self._first = True

    async def read(self) -> None:
        """Serve until the client hangs up, or says too much that means nothing."""
        client = self._client
        client.say({"type": "connected", "client_id": client.name})
        while True:
            try:
                message = parsed(await client.hear())
                client.say(await self._answer(message))
            except _Ended as ended:
                client.code = ended.code
                return
            except TooLarge:
                client.code = TOO_BIG
                return
            except PhysicsRunnerError as error:
                self._errors += 1
                client.say(refused(error))
                if self._errors > MAX_ERRORS:
                    client.code = BAD_MESSAGES
                    return
            except (WebSocketDisconnect, KeyError):
                return  # it hung up, or sent bytes that are no text
            self._first = False

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "subscribe" in message:
            return await self._subscribe(message)
        if "unsubscribe" in message:
            run = _run(message["unsubscribe"])
            self._rooms.exit(self._client, live.run_room(run))
            return {"type": "unsubscribed", "simulation_id": run}
        if "ping" in message:
            return {"type": "pong", "pong": _echo(message["ping"])}
        if "token" in message and self._first:
            try:
                await self._door.rename(self._client, message)
            except PhysicsRunnerError as error:  # a token that was given is what counts
                raise _Ended(_code(error)) from None
            return {"type": "authenticated", "user": self._client.identity.subject}
        raise InvalidRequest("a message is {subscribe: ID}, {unsubscribe: ID} or {ping: ...}")

    async def _subscribe(self, message: dict[str, Any]) -> dict[str, Any]:
        run = _run(message["subscribe"])
        room, after = asked_room({"room": live.run_room(run), "after": message.get("after")})
        try:
            entered = await self._rooms.enter(self._client, room, after)
            run = entered.partition(":")[2]  # it may have been asked for by its number
            # Behind the entry: what has changed meanwhile is told, too.
            found = await to_thread.run_sync(self._door.run, self._client, run)
        except PhysicsRunnerError as error:
            return {**refused(error), "simulation_id": run}
        return {"type": "subscribed", "simulation_id": run, "simulation": found}


def _run(value: Any) -> str:
    """Return the run that a client names, by its id or its number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        raise InvalidRequest("subscribe and unsubscribe take the id of a simulation")
    return value


def _echo(value: Any) -> Any:
    if len(in_words({"pong": value})) > MAX_PING:
        raise InvalidRequest(f"ping takes what is at most {MAX_PING} characters long")
    return value


def _code(error: PhysicsRunnerError) -> int:
    if isinstance(error, Conflict):
        return ID_TAKEN
    if isinstance(error, TooLarge):
        return TOO_BIG
    if isinstance(error, ServerUnavailable):
        return TRY_LATER
    return BAD_MESSAGES if isinstance(error, InvalidRequest) else NOT_AUTHENTICATED
