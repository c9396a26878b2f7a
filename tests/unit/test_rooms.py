"""Entering a room with ``after``: none is missed and none comes twice, however busy the log is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.server import rooms as module
from physicsrunner.server.members import Member, Told, Why
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.access import Identity
from physicsrunner.service.events import Room
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

RUN = "11111111-1111-4111-8111-111111111111"
NAME = live.run_room(RUN)


def logged(number: int) -> Event:
    return Event(live.SEALED, RUN, 1, None, 0.0, id=number)


def sample() -> Event:
    return Event(live.PROGRESS, RUN, 1, None, 0.0)


@dataclass(frozen=True)
class Page:
    """What is read of the log at once."""

    events: list[Event]
    upto: int


@dataclass
class Log:
    """A log, and what happens while it is read."""

    events: list[Event] = field(default_factory=list)
    first: list[Callable[[], None]] = field(default_factory=list)  # just before it is read
    meanwhile: list[Callable[[], None]] = field(default_factory=list)  # just after

    def room(self, _identity: Identity, name: str) -> Room:
        return Room(name, run=RUN)

    def page(self, _room: Room, after: int, limit: int) -> Page:
        if self.first:
            self.first.pop(0)()
        behind = [event for event in self.events if (event.id or 0) > after][:limit]
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return Page(behind, behind[-1].id or after if behind else after)


class Listener(Member):
    """One who notes what comes."""

    def __init__(self) -> None:
        super().__init__(cast(Identity, None))
        self.heard: list[int | None] = []

    def tell(self, told: Told) -> None:
        self.heard.append(told.event.id)

    def command(self, data: dict[str, Any]) -> None:
        raise AssertionError(data)

    def left(self, room: str, error: PhysicsRunnerError) -> None:
        raise AssertionError(room, error)

    def waiting(self) -> int:
        return 0

    async def send_away(self, why: Why) -> None:
        raise AssertionError(why)


class House:
    """Rooms over a log, and what is told in them."""

    def __init__(self, *numbers: int) -> None:
        self.log = Log([logged(number) for number in numbers])
        self.rooms = Rooms(cast(Any, None), cast(Any, self.log), Metrics())
        self.member = Listener()
        self.rooms.join(self.member)

    def happens(self, *events: Event) -> None:
        """Have events told in the rooms now; called in the threads that read."""
        asyncio.run_coroutine_threadsafe(self.rooms._deliver(events), self.loop).result(10)

    def comes(self, *numbers: int) -> None:
        """Have events logged, then told."""
        events = [logged(number) for number in numbers]
        self.log.events += events
        self.happens(*events)

    def leaves(self) -> None:
        """Have the member leave, and one more event come; called in the threads that read."""
        self.comes(2)
        self.loop.call_soon_threadsafe(self.rooms.exit, self.member, NAME)

    def enter(self) -> list[int | None]:
        """Have the member enter, with all that is in the log; return what it heard."""

        async def enters() -> None:
            self.loop = asyncio.get_running_loop()
            await self.rooms.enter(self.member, NAME, 0)
            await self.rooms._deliver([logged(1000), sample()])

        asyncio.run(enters())
        return self.member.heard


@pytest.mark.parametrize("quiet", range(5))
def test_what_comes_while_the_log_is_read_comes_once(quiet: int) -> None:
    """Before the room is entered and after; both in the log already when it is told and not."""
    house = House(1, 2)
    nothing: list[Callable[[], None]] = [lambda: None]

    def one_more() -> None:
        house.comes(len(house.log.events) + 1)

    house.log.first = [*nothing * quiet, one_more]
    house.log.meanwhile = [*nothing * (4 - quiet), one_more]
    heard = house.enter()
    assert heard == [*range(1, len(house.log.events) + 1), 1000, None]


def test_what_the_log_told_and_is_told_late_comes_once() -> None:
    """An event is in the log a moment before those who listen are told."""
    house = House(1, 2, 3)
    nothing: list[Callable[[], None]] = [lambda: None]
    house.log.meanwhile = [*nothing * 2, lambda: house.happens(logged(2), logged(3))]
    assert house.enter() == [1, 2, 3, 1000, None]


def test_samples_that_come_while_the_log_is_read_wait_for_it() -> None:
    """They are not lost, and they come behind what was before them."""
    house = House(1)

    def busy() -> None:
        house.comes(2)
        house.happens(sample())

    house.log.meanwhile = [lambda: None, lambda: None, busy]
    assert house.enter() == [1, 2, None, 1000, None]


def test_more_than_can_wait_is_read_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood while the log is read: every logged event comes, once and in order."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    house = House(1)
    house.log.meanwhile = [
        lambda: None,
        lambda: None,
        lambda: house.comes(*range(2, 12)),
        lambda: None,
        lambda: house.comes(12),
    ]
    assert house.enter() == [*range(1, 13), 1000, None]


def test_who_leaves_while_the_log_is_read_hears_no_more() -> None:
    """What waited for it is dropped."""
    house = House(1)
    house.log.meanwhile = [
        lambda: None,
        lambda: None,
        house.leaves,
    ]
    assert house.enter() == [1]


def test_who_shows_another_token_while_it_is_looked_at_stays_who_that_says() -> None:
    """A look that began before does not put back who it was; rights that were lost are."""
    house = House()
    before, after = Identity("user", "admin", "admin"), Identity("user", "nat", token="t")
    house.member.identity = before

    class Access:
        """Says that the role is less now; meanwhile another token is shown."""

        shown: Identity | None = after

        def still_good(self, _identity: Identity) -> bool:
            return True

        def refreshed(self, identity: Identity) -> Identity:
            if self.shown is not None:
                house.member.identity, self.shown = self.shown, None
            return replace(identity, role="viewer")

    house.rooms = Rooms(cast(Any, Access()), cast(Any, house.log), Metrics())
    house.rooms.join(house.member)
    asyncio.run(house.rooms.look())
    assert house.member.identity is after
    asyncio.run(house.rooms.look())
    assert house.member.identity == replace(after, role="viewer")
