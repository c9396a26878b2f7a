"""
The live feed over socket.io: one event name, rooms, and nobody waits for a slow viewer.

Promises:

- One event name, `wire.live.EVENT`, with the envelope; ``auth={token}`` at connect.
- ``subscribe {room, after?}`` is acknowledged when what was logged behind ``after`` has been sent
  and the room is entered. What holds in the rooms is in `server.rooms`.
- Agents get their commands as `wire.live.COMMAND`.
"""

from __future__ import annotations

from typing import Any, Final

import socketio
from anyio import to_thread
from engineio import packet as engine_packet
from socketio import packet as socket_packet

from physicsrunner.errors import InvalidRequest, NotAllowed, PhysicsRunnerError
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.members import Member, Told, Why
from physicsrunner.server.origin import is_own
from physicsrunner.server.problems import problem
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.wire import live

MAX_MESSAGE: Final = 64 * 1024  #: bytes that a viewer may send at once
MAX_ROOM_NAME: Final = 300
_WORDS: Final = "socket.io"


class Live:
    """The socket.io door of one server."""

    def __init__(self, access: AccessService, rooms: Rooms) -> None:
        self._access = access
        self._rooms = rooms
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            ping_interval=20,
            ping_timeout=20,
            max_http_buffer_size=MAX_MESSAGE,
            http_compression=False,
            json=StrictJson,
            # The library's own rule knows no https of this server's.
            cors_allowed_origins=is_own,
        )
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)
        self.server.on(live.SUBSCRIBE, self._subscribe)
        self.server.on(live.UNSUBSCRIBE, self._unsubscribe)
        self._viewers: dict[str, Viewer] = {}
        self._closed = False

    async def close(self) -> None:
        """End the library's own tasks; again is nothing."""
        if self._closed:
            return
        self._closed = True  # the library's own shutdown fails when it is called twice
        await self.server.shutdown()

    async def _connect(self, sid: str, environ: Any, auth: Any = None) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        origin = environ.get("REMOTE_ADDR") if isinstance(environ, dict) else None
        try:
            who = await to_thread.run_sync(
                self._access.authenticate, token if isinstance(token, str) else None, origin
            )
        except PhysicsRunnerError as error:
            raise socketio.exceptions.ConnectionRefusedError(str(error), problem(error)) from None
        viewer = Viewer(who, self.server, sid)
        self._viewers[sid] = viewer
        self._rooms.join(viewer)

    async def _disconnect(self, sid: str, _reason: Any = None) -> None:
        viewer = self._viewers.pop(sid, None)
        if viewer is not None:
            self._rooms.leave(viewer)

    async def _subscribe(self, sid: str, wanted: Any = None) -> dict[str, Any]:
        try:
            room, after = asked_room(wanted)
            viewer = self._viewers.get(sid)
            if viewer is None:
                raise NotAllowed("this connection has ended")
            room = await self._rooms.enter(viewer, room, after)
        except PhysicsRunnerError as error:
            return {"ok": False, "error": problem(error)}
        return {"ok": True, "room": room}

    async def _unsubscribe(self, sid: str, wanted: Any = None) -> dict[str, Any]:
        try:
            room, _ = asked_room(wanted)
        except InvalidRequest as error:
            return {"ok": False, "error": problem(error)}
        viewer = self._viewers.get(sid)
        if viewer is not None:
            self._rooms.exit(viewer, room)
        return {"ok": True, "room": room}


class Viewer(Member):
    """One socket.io connection."""

    def __init__(self, identity: Identity, server: socketio.AsyncServer, sid: str) -> None:
        super().__init__(identity)
        self._server = server
        self._sid = sid

    def tell(self, told: Told) -> None:
        """Queue the event, in words that are made once for all viewers."""
        packets = told.words.get(_WORDS)
        if packets is None:
            packets = told.words[_WORDS] = self._packets(live.EVENT, told.envelope)
        self._put(packets)

    def command(self, data: dict[str, Any]) -> None:
        """Queue a command."""
        self._put(self._packets(live.COMMAND, data))

    def left(self, room: str, error: PhysicsRunnerError) -> None:
        """Queue that a room was left."""
        self._put(self._packets(live.UNSUBSCRIBED, {"room": room, "error": problem(error)}))

    def waiting(self) -> int:
        """Return how many packets have not been sent yet."""
        socket = self._socket()
        return int(socket.queue.qsize()) if socket is not None else 0

    async def send_away(self, why: Why) -> None:  # noqa: ARG002 - the protocol has no word for it
        """End the connection without waiting for it to read."""
        socket = self._socket()
        if socket is None:
            return
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        await socket.close(wait=False)

    def _packets(self, name: str, data: dict[str, Any]) -> list[Any]:
        # The library's `emit` would encode it for each viewer anew and start a task for each.
        packet = self._server.packet_class(
            socket_packet.EVENT, data=[name, data], namespace="/", binary=False
        )
        encoded = packet.encode()
        pieces = encoded if isinstance(encoded, list) else [encoded]
        return [engine_packet.Packet(engine_packet.MESSAGE, piece) for piece in pieces]

    def _put(self, packets: list[Any]) -> None:
        socket = self._socket()
        if socket is None or socket.closed or socket.closing:
            return
        for packet in packets:
            socket.queue.put_nowait(packet)

    def _socket(self) -> Any:
        eio_sid = self._server.manager.eio_sid_from_sid(self._sid, "/")
        return self._server.eio.sockets.get(eio_sid)


def asked_room(value: Any) -> tuple[str, int | None]:
    """Return room and ``after`` of a subscription."""
    if not isinstance(value, dict) or not isinstance(value.get("room"), str):
        raise InvalidRequest("subscribe takes {room, after?}")
    after = value.get("after")
    if after is not None and (type(after) is not int or not 0 <= after < 2**63):
        raise InvalidRequest("after is the id of an event, a whole number")
    if len(value["room"]) > MAX_ROOM_NAME:
        raise InvalidRequest("room is one of run:ID, project:ID, agent:ID, all")
    return value["room"], after
