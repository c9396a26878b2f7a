"""Who hears what: the same in pages of the log, in rooms, and for webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import NewRun
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PhysicsRunnerError,
)
from physicsrunner.server.hub import Hub
from physicsrunner.server.members import Member, Told, Why
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.access import Identity
from physicsrunner.service.outbox import shown
from physicsrunner.store.outbox import EventFilter
from physicsrunner.wire import live
from physicsrunner.wire.live import Event
from tests.contract.service_house import House, open_house


class Ear(Member):
    """A member that keeps what it is told."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self.told: list[Event] = []
        self.commands: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.why: Why | None = None
        self.unread = 0

    def tell(self, told: Told) -> None:
        self.told.append(told.event)

    def command(self, data: dict[str, Any]) -> None:
        self.commands.append(data)

    def left(self, room: str, _error: PhysicsRunnerError) -> None:
        self.lost.append(room)

    def waiting(self) -> int:
        return self.unread

    async def send_away(self, why: Why) -> None:
        self.why = why


@dataclass
class Cast:
    """A house with two projects, people of all kinds, and a run of each."""

    house: House
    people: dict[str, Identity]
    runs: dict[str, str]

    def happen(self) -> list[Event]:
        """Write one event of every kind; return them as they stand in the log."""
        self.house.told.clear()
        facts = [
            Event("simulation/held", run, None, "p" if name == "in p" else None, 1.0, {"of": name})
            for name, run in self.runs.items()
        ]
        facts += [
            Event("agent/paused", None, None, None, 1.0, {"agent": "node", "of": "agent"}),
            Event("user/changed", None, None, None, 1.0, {"of": "account"}),
            Event("member/set", None, None, "p", 1.0, {"of": "account of p"}),
            Event("webhook/added", None, None, "p", 1.0, {"of": "webhook of p"}),
        ]
        self.house.services._store.append_events(facts)
        return list(self.house.told)


EXPECTED = {
    "admin": {"in p", "mine", "hers", "agent", "account", "account of p", "webhook of p"},
    "operator": {"in p", "mine", "hers", "agent", "webhook of p"},
    "viewer": {"in p", "mine", "hers"},
    "member": {"in p", "mine", "webhook of p"},
    "stranger": {"hers"},
}


@pytest.fixture
def cast(tmp_path: Path) -> Iterator[Cast]:
    """The cast, on SQLite."""
    house = open_house(tmp_path)
    services = house.services
    accounts, access = services.accounts, services.access
    accounts.add_project(house.admin, "p")
    people = {"admin": house.admin}
    for name in ("operator", "viewer"):
        people[name] = house.user(name, name)
    for name in ("member", "stranger"):
        accounts.add_user(house.admin, name)
    accounts.set_member(house.admin, "p", "member", "operator")
    for name in ("member", "stranger"):
        people[name] = access.authenticate(access.user_token(name, "user"))
    model = house.model()
    runs = {
        name: services.runs.create(by, NewRun(model_id=model, project_id=project)).id
        for name, by, project in (("in p", house.admin, "p"),)
    }
    for name, by in (("mine", people["member"]), ("hers", people["stranger"])):
        runs[name] = services.runs.claim(by, NewRun(name=name), "host")[0].id
    yield Cast(house, people, runs)
    services.close()


def said(events: list[Event]) -> list[str]:
    return [event.data["of"] for event in events if "of" in event.data]


async def with_rooms(cast: Cast, work: Callable[[Rooms], Awaitable[None]]) -> None:
    """Carry out *work* with rooms that hear what the house's feed tells."""
    rooms = Rooms(cast.house.services.access, cast.house.services.events, Metrics())
    hub = Hub(asyncio.get_running_loop())
    rooms.attach(hub)
    unsubscribe = cast.house.services.feed.subscribe(hub.publish)
    task = asyncio.create_task(rooms.run())
    try:
        await work(rooms)
    finally:
        unsubscribe()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    end = asyncio.get_running_loop().time() + 10.0
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.005)


def test_everybody_reads_what_is_theirs(cast: Cast) -> None:
    """The same events in the page, live in `all`, and behind ``after``; the order of the log."""
    before = cast.house.services.events.newest()
    find = cast.house.services.events.find
    heard: dict[str, Ear] = {name: Ear(who) for name, who in cast.people.items()}
    late = {name: Ear(who) for name, who in cast.people.items()}

    async def work(rooms: Rooms) -> None:
        for ear in heard.values():
            rooms.join(ear)
            await rooms.enter(ear, "all", None)
        told = cast.happen()
        await until(lambda: len(said(heard["admin"].told)) == len(told))
        for ear in late.values():
            rooms.join(ear)
            await rooms.enter(ear, "all", before)

    asyncio.run(with_rooms(cast, work))
    for name, who in cast.people.items():
        page = find(who, EventFilter(after=before))
        assert set(said(page.events)) == EXPECTED[name], name
        assert heard[name].told == page.events, name
        assert late[name].told == page.events, name
        assert page.upto == cast.house.services.events.newest()


def test_rooms_and_filters_of_others_are_refused(cast: Cast) -> None:
    """What may not be read does not exist; machines hear of their own alone."""
    events = cast.house.services.events
    _, bearer = cast.house.claimed()
    agent = cast.house.agent("node")
    assert bearer.run is not None
    member, stranger = cast.people["member"], cast.people["stranger"]
    assert events.room(member, "project:p").project == "p"
    assert events.room(bearer, f"run:{bearer.run}").run == bearer.run
    assert events.room(agent, "agent:node").commands
    refused: list[tuple[Identity, str, type[PhysicsRunnerError]]] = [
        (stranger, "project:p", NotFound),
        (stranger, f"run:{cast.runs['in p']}", NotFound),
        (member, f"run:{cast.runs['hers']}", NotFound),
        (member, "agent:node", NotAllowed),
        (bearer, "all", NotAllowed),
        (bearer, "project:p", NotAllowed),
        (bearer, f"run:{cast.runs['mine']}", NotFound),
        (agent, "all", NotAllowed),
        (agent, "agent:other", NotAllowed),
        (member, "nothing", InvalidRequest),
        (member, "run:", InvalidRequest),
    ]
    for who, room, error in refused:
        with pytest.raises(error):
            events.room(who, room)
    with pytest.raises(NotFound):
        events.find(stranger, EventFilter(project="p"))
    with pytest.raises(NotFound):
        events.find(stranger, EventFilter(run=cast.runs["in p"]))
    for pattern in ("", "a b", "%", "x" * 65, "*********", "é"):
        with pytest.raises(InvalidRequest):
            events.find(member, EventFilter(types=[pattern]))
    assert {e.type for e in events.find(member, EventFilter(types=["*/queued"])).events} == {
        live.QUEUED
    }


def test_who_is_no_longer_a_member_hears_no_more(cast: Cast) -> None:
    """Rooms of the project and its runs are left, and `all` grows silent of them, while open."""
    services = cast.house.services
    ear = Ear(cast.people["member"])

    async def work(rooms: Rooms) -> None:
        rooms.join(ear)
        for room in ("all", "project:p", live.run_room(cast.runs["in p"])):
            await rooms.enter(ear, room, None)
        cast.happen()
        await until(lambda: len(said(ear.told)) == 3)
        services.accounts.remove_member(cast.house.admin, "p", "member")
        await asyncio.gather(rooms.look(), rooms.look())
        assert sorted(ear.lost) == ["project:p", live.run_room(cast.runs["in p"])]
        ear.told.clear()
        cast.happen()
        await until(lambda: said(ear.told))
        assert said(ear.told) == ["mine"]
        services.accounts.change_user(cast.house.admin, "member", disabled=True)
        await rooms.look()
        assert ear.why is Why.TOKEN

    asyncio.run(with_rooms(cast, work))


def test_who_does_not_read_is_sent_away(cast: Cast) -> None:
    """A member that is too far behind goes; the others hear on."""
    slow, good = Ear(cast.house.admin), Ear(cast.house.admin)

    async def work(rooms: Rooms) -> None:
        for ear in (slow, good):
            rooms.join(ear)
            await rooms.enter(ear, "all", None)
        slow.unread = 10**6
        told = cast.happen()
        await until(lambda: len(good.told) == len(told))
        await until(lambda: slow.why is not None)
        assert slow.why is Why.SLOW
        assert len(rooms) == 1

    asyncio.run(with_rooms(cast, work))


def test_samples_that_nobody_hears_end_where_they_were_published(cast: Cast) -> None:
    """Without a listener a sample costs a look; what is logged always goes on."""
    services = cast.house.services

    async def work(_: Rooms) -> None:
        hub = Hub(asyncio.get_running_loop())
        rooms = Rooms(services.access, services.events, Metrics())
        rooms.attach(hub)
        sample = Event(live.PROGRESS, cast.runs["mine"], 1, None, 0.0)
        hub.publish([sample] * 1000)
        assert not hub._waiting
        hub.publish([Event("a/b", None, None, None, 0.0, id=1)])
        assert len(hub._waiting) == 1
        ear = Ear(cast.people["member"])
        rooms.join(ear)
        await rooms.enter(ear, live.run_room(cast.runs["mine"]), None)
        hub.publish([sample])
        assert sample in hub._waiting

    asyncio.run(with_rooms(cast, work))


def test_commands_reach_their_agent_alone(cast: Cast) -> None:
    """cancel, pause, resume of a run and the state of an agent are told to that agent at once."""
    here, there = Ear(cast.house.agent("here")), Ear(cast.house.agent("there"))
    run = cast.runs["mine"]

    async def work(rooms: Rooms) -> None:
        for ear in (here, there):
            rooms.join(ear)
            await rooms.enter(ear, f"agent:{ear.identity.subject}", None)
        for kind in (live.CANCEL_REQUESTED, live.PAUSE_REQUESTED, live.RESUME_REQUESTED):
            fact = Event(kind, run, 1, None, 1.0, {"agent": "here"})
            cast.house.services._store.append_events([fact])
        fact = Event(live.AGENT_DRAINED, None, None, None, 1.0, {"agent": "there"})
        cast.house.services._store.append_events([fact])
        await until(lambda: there.commands)

    asyncio.run(with_rooms(cast, work))
    assert [item["command"] for item in here.commands] == ["cancel", "pause", "resume"]
    assert all(item["run"] == run and item["attempt"] == 1 for item in here.commands)
    assert [item["command"] for item in there.commands] == ["drain"]


def test_webhooks_belong_to_those_who_run_the_project(cast: Cast) -> None:
    """Operators of a project make its own, those of the server any; the secret is never shown."""
    outbox, people = cast.house.services.outbox, cast.people
    asked = {"url": "https://example.org/hook"}
    mine, secret = outbox.add(people["member"], {**asked, "project_id": "p"})
    wide, _ = outbox.add(people["operator"], {**asked, "types": ["simulation/*"]})
    assert secret not in str(shown(mine))
    assert secret not in mine.secret
    assert outbox.secret(mine) == secret
    assert [row.id for row in outbox.webhooks(people["member"])] == [mine.id]
    assert {row.id for row in outbox.webhooks(people["operator"])} == {mine.id, wide.id}
    refused: list[tuple[str, dict[str, Any], type[PhysicsRunnerError]]] = [
        ("member", asked, NotAllowed),
        ("viewer", {**asked, "project_id": "p"}, NotAllowed),
        ("viewer", asked, NotAllowed),
        ("stranger", {**asked, "project_id": "p"}, NotAllowed),
        ("member", {**asked, "project_id": "q"}, NotFound),
        ("operator", {**asked, "project_id": "nowhere"}, NotFound),
        ("operator", {**asked, "project_id": "no where"}, InvalidRequest),
        ("operator", {**asked, "types": "simulation/*"}, InvalidRequest),
        ("operator", {**asked, "types": ["a b"]}, InvalidRequest),
        ("operator", {**asked, "secret": "short"}, InvalidRequest),
        ("operator", {**asked, "other": 1}, InvalidRequest),
        ("operator", {**asked, "active": 1}, InvalidRequest),
        ("operator", {"types": []}, InvalidRequest),
        ("operator", {**asked, "url": "http://127.0.0.1/"}, InvalidRequest),
        ("operator", {**asked, "id": "seven"}, InvalidRequest),
        ("operator", {**asked, "id": mine.id}, Conflict),
    ]
    for name, body, error in refused:
        with pytest.raises(error):
            outbox.add(people[name], body)
    with pytest.raises(NotFound):
        outbox.get(people["member"], wide.id)
    with pytest.raises(PhysicsRunnerError):
        outbox.remove(people["stranger"], mine.id)
    again, same = outbox.add(people["member"], {**asked, "project_id": "p", "id": mine.id})
    assert (again, same) == (mine, secret)
    cast.happen()
    told = {"mine": mine, "wide": wide}
    found = {name: said(outbox.pending(row, row.cursor, 100)[0]) for name, row in told.items()}
    assert found == {"mine": ["in p", "webhook of p"], "wide": ["in p", "mine", "hers"]}
    changed = outbox.change(people["member"], mine.id, {"active": False, "types": ["a/*"]})
    assert (changed.active, list(changed.types), changed.cursor) == (False, ["a/*"], mine.cursor)
    outbox.remove(people["member"], mine.id)
    kinds = [event.type for event in cast.house.told if event.type.startswith("webhook/")]
    assert kinds[-2:] == [live.WEBHOOK_CHANGED, live.WEBHOOK_REMOVED]
