"""
The live feed: one event name, one envelope, rooms.

The same envelope travels over socket.io, ``/ws`` and ``GET /api/v1/events``. Events that change the
record have an ``id`` (their place in the log); progress, log lines and series are live only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

SOCKETIO_PATH: Final = "/socket.io"
EVENT: Final = "event"  #: the one event name, server -> viewer
SUBSCRIBE: Final = "subscribe"  #: viewer -> server: {room, after?}, acknowledged
UNSUBSCRIBE: Final = "unsubscribe"
COMMAND: Final = "command"  #: server -> agent: {run, attempt, command}
WORK: Final = "work"  #: the command that means: a run waits, ask for leases now

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
DELETED: Final = "simulation/deleted"
AGENT_JOINED: Final = "agent/joined"
AGENT_DRAINED: Final = "agent/draining"
AGENT_PAUSED: Final = "agent/paused"  #: by its circuit breaker
AGENT_RESUMED: Final = "agent/resumed"
AGENT_REMOVED: Final = "agent/removed"
UNREACHABLE: Final = "simulation/contact/lost"
REACHABLE: Final = "simulation/contact/back"
# Live only.
PROGRESS: Final = "simulation/progress"
LOG: Final = "simulation/log"  #: data {path, offset, text}
SERIES: Final = "simulation/series"  #: data {points: [{series, x, y, ...}]}
FILES: Final = "simulation/files"  #: data {files: [{path, size}]}

LIVE_ONLY: Final = frozenset({PROGRESS, LOG, SERIES, FILES})


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


def run_room(run: str) -> str:
    """Return the name of the room of one run."""
    return f"run:{run}"
