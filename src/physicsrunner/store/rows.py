"""What goes into a store and comes out of it, apart from runs. Pure data, see `store.base`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunSummary
from physicsrunner.wire.live import Event


@dataclass(frozen=True)
class Actor:
    """Who asked for a change, and from where."""

    name: str
    origin: str | None = None  #: network address


@dataclass(frozen=True)
class Change:
    """What a decision changes, all of it in one transaction."""

    run: Mapping[str, Any] = field(default_factory=dict)  #: fields of `RunSummary`
    body: Mapping[str, Any] = field(default_factory=dict)  #: `core.run.BODY_FIELDS`, or secrets
    attempt: Mapping[str, Any] = field(default_factory=dict)  #: fields of `AttemptRecord`
    events: Sequence[Event] = ()


@dataclass(frozen=True)
class AttemptRecord:
    """One try of a run, and who had it."""

    run_id: str
    attempt: int
    agent: str
    leased_at: float
    state: str = "preparing"
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Offer:
    """What an agent that asks for work can take."""

    room: Room
    now: float
    labels: Sequence[str] = ()
    limit: int = 1
    caps: int | None = None  #: how many runs agents may hold at once, server-wide; None: any number
    agent: str | None = None  #: gets nothing if it is known and not active
    last: tuple[int, int] | None = None  #: gets nothing behind this place (`queue_place`)


@dataclass(frozen=True)
class RunPage:
    """One page of a list of runs."""

    runs: list[RunSummary]
    total: int  #: how many match
    exact: bool = True  #: False: there are at least `total`, or only the newest were looked at


@dataclass(frozen=True)
class StudyRow:
    """Runs that belong together."""

    id: str
    name: str
    created_by: str
    created_at: float
    project_id: str | None = None
    max_concurrent_runs: int | None = None


@dataclass(frozen=True)
class StudyFilter:
    """Which studies a list shows, the latest first."""

    project_id: str | None = None
    name: str | None = None  #: the whole name
    #: Only studies of these projects, and studies of no project by `creator`; None: no such bound.
    projects: Sequence[str] | None = None
    creator: str | None = None
    limit: int = 1000
    offset: int = 0


@dataclass(frozen=True)
class AgentRow:
    """An agent, as it was last heard of."""

    id: str  #: its name
    first_seen: float
    last_seen: float
    host: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    state: str = "active"  #: active, draining, paused, removed
    reason: str | None = None  #: why it is not active, in words
    resources: dict[str, Any] = field(default_factory=dict)  #: all it has, not what is free
    slots: int = 1
    start_failures: int = 0  #: runs in a row that failed before their program ran


@dataclass(frozen=True)
class FileRow:
    """A sealed file of an attempt."""

    path: str
    size: int  #: bytes
    sha256: str


@dataclass(frozen=True)
class Sealed:
    """Files that are sealed at one moment, and what is told of it."""

    files: Mapping[tuple[str, int], Sequence[FileRow]]  #: of attempts (run, number), by path once
    events: Sequence[Event]


@dataclass(frozen=True)
class ModelRow:
    """One version of a model."""

    id: str
    name: str
    version: str  #: SHA-256 of its content
    size: int  #: bytes of the zip
    sha256: str  #: of the zip
    created: float
    created_by: str
    project_id: str | None = None
