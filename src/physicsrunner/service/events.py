"""
Who may read which events of the log, and pages of it.

Promises: a person sees the events of the runs that they may see, and of no others; what agents do
is seen by who may see agents, what concerns accounts by who may read the audit. The same rule holds
for pages, rooms and single events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import RunSummary
from physicsrunner.errors import InvalidRequest, NotAllowed, NotFound
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.store.outbox import EventFilter, OutboxStore, Page, Readable
from physicsrunner.wire import live
from physicsrunner.wire.live import Event, is_account_event, type_matches

MAX_PAGE: Final = 1000
MAX_PATTERNS: Final = 32
_OF_RUNS: Final = "simulation/*"
_OF_MODELS: Final = "model/*"
_OF_STUDIES: Final = "study/*"
_OF_AGENTS: Final = "agent/*"
_OF_WEBHOOKS: Final = "webhook/*"
ROOMS: Final = "run:ID, project:ID, agent:ID, all"


class Runs(Protocol):
    """What is needed of the runs."""

    def get(self, identity: Identity, run: str) -> RunSummary:
        """Return a run by id or number, if *identity* may see it."""
        ...


class EventStore(OutboxStore, Protocol):
    """What is needed of the store."""

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run of that id."""
        ...


@dataclass(frozen=True)
class Room:
    """A room that somebody may enter, and what they hear in it."""

    name: str
    run: str | None = None
    project: str | None = None
    readable: Readable | None = None  #: None: everything that is told in the room
    commands: bool = False  #: an agent's: nothing of the log is told there

    def wanted(self, after: int, limit: int) -> EventFilter:
        """Return which logged events behind *after* are told in the room."""
        return EventFilter(after, self.run, self.project, (), limit, self.readable)


class EventService:
    """The log as people read it. Thread-safe."""

    def __init__(self, store: EventStore, access: AccessService, runs: Runs) -> None:
        self._store = store
        self._access = access
        self._runs = runs

    def find(self, identity: Identity, wanted: EventFilter) -> Page:
        """Return a page of what *identity* may read, and how far it looked."""
        check_patterns(wanted.types)
        readable: Readable | None
        run = wanted.run
        if run is not None:
            run, readable = self._runs.get(identity, run).id, None  # by number, too
            self._access.require(identity, "events:read", run)
        elif wanted.project is not None:
            readable = self._of_project(identity, wanted.project)
        else:
            readable = readable_by(identity)
        limit = max(1, min(wanted.limit, MAX_PAGE))
        return self._store.find_events(replace(wanted, run=run, limit=limit, readable=readable))

    def newest(self) -> int:
        """Return the id of the newest event of the log, whoever may read it."""
        return self._store.last_event()

    def room(self, identity: Identity, name: str) -> Room:
        """Return the room of that name; raise if *identity* may not enter it."""
        kind, _, key = name.partition(":")
        if kind == "run" and key:
            run = self._runs.get(identity, key).id
            self._access.require(identity, "events:read", run)
            return Room(live.run_room(run), run=run)
        if kind == "project" and key:
            readable = self._of_project(identity, key)
            return Room(live.project_room(key), project=key, readable=readable)
        if name == "all":
            return Room("all", readable=readable_by(identity))
        if kind == "agent" and key:
            own = identity.kind == "agent" and identity.subject == key
            if not own and identity.scope("agents:read") is not Scope.ANY:
                raise NotAllowed(f"{identity} may not hear what agent {key} is told")
            return Room(live.agent_room(key), commands=True)
        raise InvalidRequest(f"room is one of {ROOMS}")

    def page(self, room: Room, after: int, limit: int) -> Page:
        """Return logged events of a room that was entered."""
        return self._store.find_events(room.wanted(after, limit))

    def creators(self, runs: Iterable[str]) -> dict[str, str | None]:
        """Return who created each of *runs*; None for runs of a project, and unknown ones."""
        found: dict[str, str | None] = {}
        for run in runs:
            known = self._store.summary(run)
            own = known is not None and known.project_id is None
            found[run] = known.created_by if own and known is not None else None
        return found

    def _of_project(self, identity: Identity, project: str) -> Readable | None:
        """Return what may be read of *project*; raise if it may not be read at all."""
        if identity.scope_in("events:read", project).value <= Scope.OWN.value:
            if identity.scope("events:read") is Scope.NONE or identity.kind != "user":
                raise NotAllowed(f"{identity} hears of its own run only")
            raise NotFound(f"there is no project {project}")
        if identity.scope("audit:read") is Scope.ANY:
            return None
        return Readable(frozenset({project}))


def readable_by(identity: Identity) -> Readable | None:
    """Return what *identity* may read of the log; None: everything."""
    scope = identity.scope("events:read")
    if scope is Scope.NONE:
        raise NotAllowed(f"{identity} has no permission events:read")
    if identity.kind != "user":
        raise NotAllowed(f"{identity} hears of its own run only")
    types: list[str] = []
    if identity.scope("events:read") is Scope.ANY:
        if identity.scope("audit:read") is Scope.ANY:
            return None
        types.append(_OF_RUNS)
    if identity.scope("models:read") is Scope.ANY and identity.kind == "user":
        types.append(_OF_MODELS)
    if identity.scope("studies:read") is Scope.ANY:
        types.append(_OF_STUDIES)
    if identity.scope("agents:read") is Scope.ANY:
        types.append(_OF_AGENTS)
    if identity.scope("webhooks:read") is Scope.ANY:
        types.append(_OF_WEBHOOKS)
    own = identity.scope_in("events:read", None) is not Scope.NONE
    return Readable(
        projects=frozenset(identity.projects_with("events:read")),
        creator=identity.subject if own else None,
        types=tuple(types),
    )


def hears(readable: Readable | None, event: Event, creator: str | None) -> bool:
    """Say whether *event*, of a run of *creator*'s own (None: of a project), may be read."""
    if readable is None:
        return True
    if is_account_event(event.type):
        return False
    if readable.types and type_matches(readable.types, event.type):
        return True
    if event.run is not None and event.run == readable.run:
        return True
    if event.project is not None:
        return event.project in readable.projects
    return event.run is not None and creator is not None and creator == readable.creator


def needs_creator(readable: Readable | None, event: Event) -> bool:
    """Say whether `hears` depends on who created the event's run."""
    return (
        readable is not None
        and event.run is not None
        and event.project is None
        and not (readable.types and type_matches(readable.types, event.type))
    )


def check_patterns(types: Iterable[str]) -> None:
    """Raise `InvalidRequest` for patterns of types that cannot be any."""
    given = list(types)
    if len(given) > MAX_PATTERNS:
        raise InvalidRequest(f"at most {MAX_PATTERNS} patterns of types")
    for pattern in given:
        plain = pattern.replace("*", "").replace("/", "").replace("_", "").replace("-", "")
        fits = isinstance(pattern, str) and 0 < len(pattern) <= 64 and pattern.count("*") <= 8
        if not fits or not (plain == "" or (plain.isascii() and plain.isalnum())):
            raise InvalidRequest(f"{pattern[:64]!r} is no pattern such as simulation/*")
