"""
Rooms: who hears of what, the same for every door through which people listen.

Promises:

- Who enters with ``after`` gets the logged events behind that id, then the live ones: none is
  missed and none comes twice.
- In a room everybody hears what they may read and nothing else, event by event.
- An event is put into words once for each door, however many listen; for one to whose rooms nobody
  has come nothing is done at all.
- A member that does not read is sent away; a replay waits for its reader.
- A member whose token has expired or was revoked is sent away within `LOOK_S`; one who may no
  longer enter a room leaves it.

Everything here happens on the event loop; the service is asked in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Final

from anyio import to_thread

from physicsrunner.errors import (
    NotAuthenticated,
    PhysicsRunnerError,
    ServerUnavailable,
    TooLarge,
)
from physicsrunner.server.hub import Hub
from physicsrunner.server.members import Member, Told, Why
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.waker import Waker
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.events import EventService, Room, hears, needs_creator
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

MAX_WAITING: Final = 2_000  #: messages a member may be behind before it is sent away
REPLAY: Final = 500  #: logged events read at once
READING_S: Final = 30.0  #: how long a replay waits for a reader that reads nothing
LOOK_S: Final = 5.0  #: between two looks at the tokens
MAX_ROOMS: Final = 1_000  #: of one connection
_CREATORS: Final = 10_000  # runs of which the creator is remembered
_STEP_S: Final = 0.005
_RIGHTS: Final = frozenset(
    {live.MEMBER_SET, live.MEMBER_REMOVED, live.USER_CHANGED, live.TOKEN_REVOKED}
)

_COMMANDS: Final = {
    live.CANCEL_REQUESTED: "cancel",
    live.PAUSE_REQUESTED: "pause",
    live.RESUME_REQUESTED: "resume",
    live.AGENT_DRAINED: "drain",
    live.AGENT_PAUSED: "state",
    live.AGENT_RESUMED: "state",
    live.AGENT_REMOVED: "state",
}

_LOG = logging.getLogger(__name__)


class Rooms:
    """All rooms of one server."""

    def __init__(self, access: AccessService, events: EventService, metrics: Metrics) -> None:
        self._access = access
        self._events = events
        self._metrics = metrics
        self._members: set[Member] = set()
        self._rooms: dict[str, dict[Member, Room]] = {}
        self._queue: asyncio.Queue[Sequence[Event]] = asyncio.Queue()
        self._held: dict[tuple[Member, str], deque[Told]] = {}  # until their replay is over
        self._creators: OrderedDict[str, str | None] = OrderedDict()
        self._closed = False
        self.waker = Waker(self._wake, self._agents)

    def attach(self, hub: Hub) -> None:
        """Take the events of *hub* from now on."""
        hub.listen(self._queue.put_nowait, self._is_wanted)

    async def run(self) -> None:
        """Deliver events to their rooms until cancelled."""
        await asyncio.gather(self._deliver_all(), self._look_for_ever(), self.waker.run())

    async def close(self) -> None:
        """Send everybody away; again is nothing."""
        self._closed = True
        for member in list(self._members):
            await self._send_away(member, Why.STOPPING)

    # -- who is there ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Member) -> None:
        """Take up a new connection."""
        self._members.add(member)
        self._metrics.viewers.set(len(self._members))

    def leave(self, member: Member) -> None:
        """Forget a connection; again is nothing."""
        member.gone = True
        for name in list(member.rooms):
            self.exit(member, name)
        self._members.discard(member)
        self._metrics.viewers.set(len(self._members))

    async def enter(self, member: Member, name: str, after: int | None) -> str:
        """
        Let *member* into a room, the logged events behind *after* first; return its full name.

        Raises an error of ours if it may not enter.
        """
        if len(member.rooms) >= MAX_ROOMS:
            raise TooLarge(f"one connection hears of {MAX_ROOMS} rooms at most")
        room = await to_thread.run_sync(self._events.room, member.identity, name)
        if after is None or room.commands:
            self._enter(member, room)
        else:
            await self._replay(member, room, after)
        return room.name

    def exit(self, member: Member, name: str) -> None:
        """Let *member* out of a room; silent if it is not there."""
        member.rooms.pop(name, None)
        self._held.pop((member, name), None)
        members = self._rooms.get(name, {})
        members.pop(member, None)
        if not members:
            self._rooms.pop(name, None)

    def _enter(self, member: Member, room: Room) -> None:
        if member.gone or self._closed:
            raise ServerUnavailable("this connection has ended")
        member.rooms[room.name] = room
        self._rooms.setdefault(room.name, {})[member] = room
        if room.commands:
            self.waker.joined()

    # -- what was -------------------------------------------------------------------------------

    async def _replay(self, member: Member, room: Room, after: int) -> None:
        """
        Send the logged events behind *after*, then those that come: none is missed, none repeated.

        The most is read before the room is entered; what comes while the rest is read waits, and
        of that goes out what the log did not bring.
        """
        after = await self._send_logged(member, room, after)
        key = (member, room.name)
        held = self._held[key] = deque[Told](maxlen=MAX_WAITING)
        try:
            self._enter(member, room)
            after = await self._send_logged(member, room, after)
            while len(held) == MAX_WAITING:  # the oldest may have fallen out: the log has them
                held.clear()
                after = await self._send_logged(member, room, after)
        finally:
            stayed = self._held.get(key) is held
            if stayed:
                del self._held[key]
        for told in held if stayed else ():
            if told.event.id is None or told.event.id > after:
                member.tell(told)

    async def _send_logged(self, member: Member, room: Room, after: int) -> int:
        """Send all logged events behind *after*; return how far the log was read."""
        while True:
            page = await to_thread.run_sync(self._events.page, room, after, REPLAY)
            for event in page.events:
                member.tell(Told(event))
            await self._reading(member)
            if page.upto == after:
                return after
            after = page.upto

    async def _reading(self, member: Member) -> None:
        """Wait until *member* has read most of what it was sent."""
        loop = asyncio.get_running_loop()
        least, since = member.waiting(), loop.time()
        while member.waiting() > REPLAY // 2 and not member.gone:
            await asyncio.sleep(_STEP_S)
            if member.waiting() < least:
                least, since = member.waiting(), loop.time()
            elif loop.time() - since > READING_S:
                await self._send_away(member, Why.SLOW)
        if member.gone:
            raise ServerUnavailable("this connection has ended")

    # -- what is --------------------------------------------------------------------------------

    def _is_wanted(self, event: Event) -> bool:
        """Say whether somebody hears of a live sample. Called in any thread."""
        rooms = self._rooms
        return (
            "all" in rooms
            or (event.run is not None and live.run_room(event.run) in rooms)
            or (event.project is not None and live.project_room(event.project) in rooms)
        )

    async def _deliver_all(self) -> None:
        while True:
            events = await self._queue.get()
            try:
                await self._deliver(events)
            except Exception:
                # Without this task nobody would ever hear of anything again.
                _LOG.exception("some members were not told of %d events", len(events))

    async def _deliver(self, events: Sequence[Event]) -> None:
        for kind, count in Counter(event.type for event in events).items():
            self._metrics.events.labels(kind).inc(count)
        if any(event.type in _RIGHTS for event in events):
            await self._look_at_once()
        await self._learn_creators(events)
        told: set[Member] = set()
        for event in events:
            try:
                told |= self._told(event)
            except Exception:
                # What came together with it is others' as much as ours: they hear of theirs.
                _LOG.exception("members were not told of an event %s", event.type)
        for member in told:
            if member.waiting() > MAX_WAITING:
                await self._send_away(member, Why.SLOW)

    def _told(self, event: Event) -> set[Member]:
        """Tell of one event whomever it concerns; return the members that heard of it."""
        if event.id is not None:
            self.waker.take(event)
        if not self._rooms:
            return set()
        if event.id is not None:
            self._command(event)
        return self._tell(event)

    def _tell(self, event: Event) -> set[Member]:
        names = ["all"]
        if event.run is not None:
            names.append(live.run_room(event.run))
        if event.project is not None:
            names.append(live.project_room(event.project))
        occupied = [members for name in names if (members := self._rooms.get(name))]
        if not occupied:
            return set()
        creator = self._creators.get(event.run or "")
        words, hearing = Told(event), set[Member]()
        held: dict[Member, deque[Told]] = {}
        for members in occupied:
            for member, room in members.items():
                if room.readable is not None and not hears(room.readable, event, creator):
                    continue
                waits = self._held.get((member, room.name))
                if waits is None:
                    hearing.add(member)
                else:
                    held[member] = waits
        for member in hearing:
            member.tell(words)
        for member in held.keys() - hearing:
            held[member].append(words)
        return hearing

    async def _learn_creators(self, events: Sequence[Event]) -> None:
        """Find out who created the runs of *events*, where what somebody hears depends on it."""
        limited = [room.readable for room in self._rooms.get("all", {}).values() if room.readable]
        if not limited:
            return
        unknown = {
            event.run
            for event in events
            if event.run is not None
            and event.run not in self._creators
            and any(needs_creator(readable, event) for readable in limited)
        }
        if not unknown:
            return
        try:
            found = await to_thread.run_sync(self._events.creators, unknown)
        except PhysicsRunnerError as error:
            _LOG.warning("whose runs these are is not known just now: %s", error)
            return
        self._creators.update(found)
        while len(self._creators) > _CREATORS:
            self._creators.popitem(last=False)

    # -- agents ----------------------------------------------------------------------------------

    def _command(self, event: Event) -> None:
        """Tell agents at once what their next heartbeat would tell them."""
        command = _COMMANDS.get(event.type)
        agent = event.data.get("agent") if command is not None else None
        if command is None or not isinstance(agent, str):
            return
        data = {"run": event.run, "attempt": event.attempt, "command": command}
        for member in list(self._rooms.get(live.agent_room(agent), ())):
            member.command(data)

    def _wake(self, agent: str) -> None:
        data = {"run": None, "attempt": None, "command": live.WORK}
        for member in list(self._rooms.get(live.agent_room(agent), ())):
            member.command(data)

    def _agents(self) -> Iterable[str]:
        return [name.partition(":")[2] for name in self._rooms if name.startswith("agent:")]

    # -- who may stay ----------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                _LOG.exception("looking at the tokens of who listens failed; it is tried again")

    async def _look_at_once(self) -> None:
        """Look, because rights have changed: what comes from now on is for who may hear it now."""
        self._access.accounts.forget()
        try:
            await self.look()
        except Exception:
            _LOG.exception("looking at the rights of who listens failed; it is tried again")

    async def look(self) -> None:
        """Send away whose token is no longer good; let go of rooms that may not be heard."""
        members = list(self._members)
        asked = [member.identity for member in members]
        now = await to_thread.run_sync(lambda: list(map(self._present, members, asked)))
        for member, before, (identity, lost) in zip(members, asked, now, strict=True):
            if _shown(member.identity) != _shown(before):
                continue  # meanwhile it has shown another token
            if identity is None:
                await self._send_away(member, Why.TOKEN)
                continue
            member.identity = identity
            for name, room in lost.items():
                if name not in member.rooms:
                    continue  # another look was quicker
                if isinstance(room, Room):
                    self._enter(member, room)  # in another extent
                else:
                    self.exit(member, name)
                    member.left(name, room)

    def _present(
        self, member: Member, before: Identity
    ) -> tuple[Identity | None, dict[str, Room | PhysicsRunnerError]]:
        """Return who *member* is now (None: nobody any more), and the rooms that changed."""
        changed: dict[str, Room | PhysicsRunnerError] = {}
        try:
            if not self._access.still_good(before):
                return None, {}
            identity = self._access.refreshed(before)
        except NotAuthenticated:
            return None, {}
        except PhysicsRunnerError:
            return before, {}  # it cannot be known just now
        if identity != before:
            for name in list(member.rooms):
                try:
                    changed[name] = self._events.room(identity, name)
                except ServerUnavailable:
                    return before, {}
                except PhysicsRunnerError as error:
                    changed[name] = error
        return identity, changed

    async def _send_away(self, member: Member, why: Why) -> None:
        if why is Why.SLOW:
            _LOG.warning("somebody who listens does not read and is sent away")
            self._metrics.dropped.inc()
        self.leave(member)
        await member.send_away(why)


def _shown(identity: Identity) -> tuple[str, str, str | None]:
    return identity.kind, identity.subject, identity.token
