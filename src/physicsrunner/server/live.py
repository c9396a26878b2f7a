"""
The live feed over socket.io: rooms, replay, and nobody waits for a slow viewer.

Promises:

- One event name, `wire.live.EVENT`, with the envelope; ``auth={token}`` at connect.
- A viewer that subscribes with ``after`` gets the logged events behind that id, then the live
  ones, without a gap. A logged event may come twice around that moment; its id tells.
- A viewer that does not read is dropped; events for the others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import socketio
from anyio import to_thread

from physicsrunner.core.permissions import Scope
from physicsrunner.errors import InvalidRequest, NotAllowed, PhysicsRunnerError
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.hub import Hub
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.problems import problem
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

MAX_WAITING: Final = 2_000  #: messages a viewer may be behind before it is dropped
REPLAY: Final = 500  #: logged events read at once
SETTLE_S: Final = 1.0  #: how long a replay waits for the feed to catch up with the log
CATCH_UPS: Final = 20

_MAKES_WORK: Final = frozenset({live.QUEUED, live.RETRIED})

_LOG = logging.getLogger(__name__)


class Live:
    """The socket.io door of one server."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            ping_interval=20,
            ping_timeout=20,
            max_http_buffer_size=64 * 1024,
            http_compression=False,
            json=StrictJson,
        )
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)
        self.server.on(live.SUBSCRIBE, self._subscribe)
        self.server.on(live.UNSUBSCRIBE, self._unsubscribe)
        self._viewers: dict[str, Identity] = {}
        self._rooms: dict[str, set[str]] = {}
        self._events: asyncio.Queue[Sequence[Event]] = asyncio.Queue()
        self._closed = False
        self._delivered = 0  # the highest id that went out to the rooms

    def attach(self, hub: Hub) -> None:
        """Take the events of *hub* from now on."""
        hub.listen(self._events.put_nowait)

    async def run(self) -> None:
        """Deliver events to their rooms until cancelled."""
        while True:
            for event in await self._events.get():
                try:
                    await self._deliver(event)
                except Exception:
                    # Without this task nobody would ever hear of anything again.
                    _LOG.exception("viewers were not told of %s", event.type)
            await self._drop_slow()

    async def close(self) -> None:
        """Send every viewer away; again is nothing."""
        if self._closed:
            return
        self._closed = True  # the library's own shutdown fails when it is called twice
        for sid in list(self._viewers):
            await self._drop(sid)
        await self.server.shutdown()

    # -- what viewers ask ------------------------------------------------------------------------

    async def _connect(self, sid: str, _environ: Any, auth: Any = None) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            who = await to_thread.run_sync(
                self._services.access.authenticate, token if isinstance(token, str) else None
            )
        except PhysicsRunnerError as error:
            raise socketio.exceptions.ConnectionRefusedError(str(error), problem(error)) from None
        self._viewers[sid] = who
        self._metrics.viewers.set(len(self._viewers))

    async def _disconnect(self, sid: str, _reason: Any = None) -> None:
        self._viewers.pop(sid, None)
        for room in [room for room, members in self._rooms.items() if sid in members]:
            self._leave(sid, room)
        self._metrics.viewers.set(len(self._viewers))

    async def _subscribe(self, sid: str, wanted: Any = None) -> dict[str, Any]:
        try:
            room, after = _wanted(wanted)
            who = self._viewers.get(sid)
            if who is None:
                raise NotAllowed("this connection has ended")
            room, run = await to_thread.run_sync(self._admit, who, room)
            if after is None:
                await self._enter(sid, room)
            else:
                await self._replay(sid, who, room, run, after)
        except PhysicsRunnerError as error:
            return {"ok": False, "error": problem(error)}
        return {"ok": True, "room": room}

    async def _unsubscribe(self, sid: str, wanted: Any = None) -> dict[str, Any]:
        try:
            room, _ = _wanted(wanted)
        except InvalidRequest as error:
            return {"ok": False, "error": problem(error)}
        self._leave(sid, room)
        await self.server.leave_room(sid, room)
        return {"ok": True, "room": room}

    def _admit(self, who: Identity, room: str) -> tuple[str, str | None]:
        """Return the room's full name and its run, if *who* may enter it."""
        kind, _, name = room.partition(":")
        if kind == "run" and name:
            run = self._services.runs.get(who, name).id
            return live.run_room(run), run
        if room == "all" or (kind == "project" and name):
            if self._services.access.scope(who, "events:read") is not Scope.ANY:
                raise NotAllowed("this token hears of its own run only")
            return room, None
        if kind == "agent" and name:
            if who.kind != "agent" or who.subject != name:
                self._services.access.require(who, "agents:read")
            return room, None
        raise InvalidRequest("room is one of run:ID, project:ID, agent:ID, all")

    async def _replay(
        self, sid: str, who: Identity, room: str, run: str | None, after: int
    ) -> None:
        """
        Send the logged events behind *after*, then enter the room, without a gap.

        The room is entered when nothing was delivered to the rooms since before a read that found
        nothing more. A busy feed might put that off for ever, so after `CATCH_UPS` tries the room
        is entered first, and the last read may then repeat what came live.
        """
        for _ in range(CATCH_UPS):
            delivered = self._delivered
            found = await self._send_logged(sid, who, room, run, after)
            if found == after and self._delivered == delivered:
                break
            after = found
            await self._settle(after)
        await self._enter(sid, room)
        await self._send_logged(sid, who, room, run, after)

    async def _send_logged(
        self, sid: str, who: Identity, room: str, run: str | None, after: int
    ) -> int:
        """Send all logged events behind *after*; return the last one's id."""
        project = room.partition(":")[2] if room.startswith("project:") else None
        while True:
            events = await to_thread.run_sync(self._services.runs.events, who, run, after, REPLAY)
            for event in events:
                if project is None or event.project == project:
                    await self.server.emit(live.EVENT, event.envelope(), to=sid)
            if not events:
                return after
            after = events[-1].id or after

    async def _settle(self, event: int) -> None:
        """Wait until the feed has brought *event*, which was read from the log already."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_S
        while self._delivered < event and loop.time() < until:
            await asyncio.sleep(0.005)

    # -- what they get ---------------------------------------------------------------------------

    async def _deliver(self, event: Event) -> None:
        self._metrics.events.labels(event.type).inc()
        rooms = ["all"]
        if event.run is not None:
            rooms.append(live.run_room(event.run))
        if event.project is not None:
            rooms.append(f"project:{event.project}")
        occupied = [room for room in rooms if room in self._rooms]
        if occupied:
            await self.server.emit(live.EVENT, event.envelope(), room=occupied)
        if event.id is not None:
            self._delivered = max(self._delivered, event.id)
        await self._command(event)

    async def _command(self, event: Event) -> None:
        """Tell agents at once what their next question would tell them."""
        if event.type == live.CANCEL_REQUESTED:
            command, rooms = "cancel", [f"agent:{event.data.get('agent')}"]
        elif event.type in _MAKES_WORK:
            command, rooms = live.WORK, [room for room in self._rooms if room.startswith("agent:")]
        else:
            return
        occupied = [room for room in rooms if room in self._rooms]
        if occupied:
            data = {"run": event.run, "attempt": event.attempt, "command": command}
            await self.server.emit(live.COMMAND, data, room=occupied)

    async def _enter(self, sid: str, room: str) -> None:
        self._rooms.setdefault(room, set()).add(sid)
        await self.server.enter_room(sid, room)

    def _leave(self, sid: str, room: str) -> None:
        members = self._rooms.get(room, set())
        members.discard(sid)
        if not members:
            self._rooms.pop(room, None)

    async def _drop_slow(self) -> None:
        for sid in list(self._viewers):
            if self._waiting(sid) > MAX_WAITING:
                _LOG.warning("a viewer does not read and is dropped")
                self._metrics.dropped.inc()
                await self._drop(sid)

    def _waiting(self, sid: str) -> int:
        socket = self._socket(sid)
        return int(socket.queue.qsize()) if socket is not None else 0

    def _socket(self, sid: str) -> Any:
        eio_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        return self.server.eio.sockets.get(eio_sid)

    async def _drop(self, sid: str) -> None:
        """End a viewer's connection without waiting for it to read."""
        socket = self._socket(sid)
        if socket is None:
            return
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        await socket.close(wait=False, abort=True)


def _wanted(value: Any) -> tuple[str, int | None]:
    """Return room and ``after`` of a subscription."""
    if not isinstance(value, dict) or not isinstance(value.get("room"), str):
        raise InvalidRequest("subscribe takes {room, after?}")
    after = value.get("after")
    if after is not None and (type(after) is not int or after < 0):
        raise InvalidRequest("after is the id of an event, a whole number")
    return value["room"], after
