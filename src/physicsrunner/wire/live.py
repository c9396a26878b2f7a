"""
The live feed: one event name, one envelope, rooms.

The same envelope travels over socket.io, ``/ws`` and ``GET /api/v1/events``. Events that change the
record have an ``id`` (their place in the log); progress, log lines and series are live only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

SOCKETIO_PATH: Final = "/socket.io"
EVENT: Final = "event"  #: the one event name, server -> viewer
SUBSCRIBE: Final = "subscribe"  #: viewer -> server: {room, after?}, acknowledged
UNSUBSCRIBE: Final = "unsubscribe"
UNSUBSCRIBED: Final = "unsubscribed"  #: server -> viewer: {room, error}, a room it may not hear
COMMAND: Final = "command"  #: server -> agent: {run, attempt, command}
WORK: Final = "work"  #: the command that means: a run waits, ask for leases now
WEBSOCKET_PATH: Final = "/ws"
STREAM: Final = "PHYSICSRUNNER"  #: of NATS JetStream
#: First words of the types that it takes; others are added when they come.
STREAM_PREFIXES: Final = ("agent", "simulation")
MESSAGE_ID: Final = "Nats-Msg-Id"  #: the header that carries an event's id

# Logged: written in the transaction of the change they tell of.
REQUESTED: Final = "simulation/requested"
QUEUED: Final = "simulation/queued"
PREPARING: Final = "simulation/resource/allocated"
STARTED: Final = "simulation/started"
PAUSED: Final = "simulation/paused"
RESUMED: Final = "simulation/resumed"
COMPLETED: Final = "simulation/completed"
FAILED: Final = "simulation/failed"
TIMED_OUT: Final = "simulation/timeout"
CANCELLED: Final = "simulation/cancelled"
CANCEL_REQUESTED: Final = "simulation/cancel/requested"
RETRIED: Final = "simulation/retried"
RESULTS: Final = "simulation/results/available"
SEALED: Final = "simulation/files/sealed"
HELD: Final = "simulation/held"  #: queued, and not handed out
RELEASED: Final = "simulation/released"  #: no longer held
PAUSE_REQUESTED: Final = "simulation/pause/requested"
RESUME_REQUESTED: Final = "simulation/resume/requested"
SILENT: Final = "simulation/silent"  #: no output for as long as the run allows
FREED: Final = "simulation/resource/released"
PINNED: Final = "simulation/pinned"
UNPINNED: Final = "simulation/unpinned"
MODEL_ADDED: Final = "model/added"  #: a model, or another version of one
STUDY_CREATED: Final = "study/created"
STUDY_CHANGED: Final = "study/changed"  #: how many of its runs may run at once
RENAMED: Final = "simulation/renamed"
INPUT_REMOVED: Final = "input/removed"
INPUT_SENT: Final = "input/sent"  #: for the audit alone: what others send is nobody's to know
DELETED: Final = "simulation/deleted"
AGENT_JOINED: Final = "agent/joined"
AGENT_DRAINED: Final = "agent/draining"
AGENT_PAUSED: Final = "agent/paused"  #: by its circuit breaker
AGENT_RESUMED: Final = "agent/resumed"
AGENT_REMOVED: Final = "agent/removed"
USER_CREATED: Final = "user/created"
USER_CHANGED: Final = "user/changed"
PASSWORD_CHANGED: Final = "user/password/changed"  # noqa: S105 - the name of an event
USER_LOCKED: Final = "user/locked"
LOGIN_FAILED: Final = "login/failed"
LOGGED_IN: Final = "login/succeeded"
TOKEN_CREATED: Final = "token/created"  # noqa: S105 - the name of an event
TOKEN_REVOKED: Final = "token/revoked"  # noqa: S105 - the name of an event
PROJECT_CREATED: Final = "project/created"
PROJECT_CHANGED: Final = "project/changed"
MEMBER_SET: Final = "member/set"
MEMBER_REMOVED: Final = "member/removed"
UNREACHABLE: Final = "simulation/contact/lost"
REACHABLE: Final = "simulation/contact/back"
WEBHOOK_ADDED: Final = "webhook/added"
WEBHOOK_CHANGED: Final = "webhook/changed"
WEBHOOK_REMOVED: Final = "webhook/removed"
# Live only.
PROGRESS: Final = "simulation/progress"
LOG: Final = "simulation/log"  #: data {path, offset, text}
SERIES: Final = "simulation/series"  #: data {points: [{series, x, y, ...}]}
FILES: Final = "simulation/files"  #: data {files: [{path, size}]}

LIVE_ONLY: Final = frozenset({PROGRESS, LOG, SERIES, FILES})
#: Of accounts: in the same log, and for those alone who may read the audit.
ACCOUNT_KINDS: Final = ("user/", "login/", "token/", "project/", "member/", "input/")


def is_account_event(kind: str) -> bool:
    """Say whether an event of that type tells of accounts, and so is for the audit alone."""
    return kind.startswith(ACCOUNT_KINDS)


@dataclass(frozen=True)
class Event:
    """A past-tense fact, or a live sample."""

    type: str
    run: str | None
    attempt: int | None
    project: str | None
    time: float  #: POSIX seconds
    data: dict[str, Any] = field(default_factory=dict)
    id: int | None = None  #: place in the log; None: live only
    actor: str | None = None  #: who caused it; None: the server itself. For the audit alone
    origin: str | None = None  #: the address it was asked from. For the audit alone

    def envelope(self) -> dict[str, Any]:
        """Return the event as it travels; ``id`` is there even when it is None."""
        return {
            "id": self.id,
            "type": self.type,
            "run": self.run,
            "attempt": self.attempt,
            "project": self.project,
            "time": self.time,
            "data": self.data,
        }


def new_event(
    kind: str,
    run: str | None,
    attempt: int | None,
    project: str | None,
    time: float,
    data: dict[str, Any],
) -> Event:
    """Return an event that is not in the log yet; quick: thousands a second."""
    made = Event.__new__(Event)
    vars(made).update(
        type=kind,
        run=run,
        attempt=attempt,
        project=project,
        time=time,
        data=data,
        id=None,
        actor=None,
        origin=None,
    )
    return made


def event_with(event: Event, **fields: Any) -> Event:
    """Return *event* with these fields in place of its own; quick: thousands a second."""
    made = Event.__new__(Event)
    vars(made).update(vars(event), **fields)
    return made


def type_matches(patterns: Iterable[str], kind: str) -> bool:
    """
    Say whether *kind* fits one of *patterns*, in which ``*`` stands for anything. None: all fit.

    Examples
    --------
    >>> type_matches(["simulation/resource/*", "agent/*"], "simulation/resource/released")
    True
    """
    some = False
    for pattern in patterns:
        some = True
        if _fits(pattern.split("*"), kind):
            return True
    return not some


def _fits(parts: list[str], kind: str) -> bool:
    first, *rest = parts
    if not rest:
        return kind == first
    if not kind.startswith(first):
        return False
    place = len(first)
    for part in rest[:-1]:
        found = kind.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return len(kind) - place >= len(rest[-1]) and kind.endswith(rest[-1])


def subject_of(kind: str) -> str:
    """Return the NATS subject of an event's type: ``simulation.resource.allocated``."""
    return kind.replace("/", ".")


def project_room(project: str) -> str:
    """Return the name of the room of one project."""
    return f"project:{project}"


def agent_room(agent: str) -> str:
    """Return the name of the room in which one agent gets commands."""
    return f"agent:{agent}"


def run_room(run: str) -> str:
    """Return the name of the room of one run."""
    return f"run:{run}"
