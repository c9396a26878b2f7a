"""
Which agents are there: what they last said of themselves, and when.

Promises: an agent that asks often is not written often; what it has free is known from its latest
word, kept in memory alone, for it is true for seconds. A removed agent is refused here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from physicsrunner.errors import InvalidRequest, NotAllowed
from physicsrunner.store.base import AgentRow, Store
from physicsrunner.wire.codec import check_depth
from physicsrunner.wire.messages import Heartbeat, LeaseRequest, Resources

WRITE_EVERY_S: Final = 5.0
ACTIVE: Final = "active"
DRAINING: Final = "draining"
PAUSED: Final = "paused"
REMOVED: Final = "removed"
_MOST_NAME: Final = 255
_MOST_LABELS: Final = 1000
_MOST_SLOTS: Final = 100_000


@dataclass(frozen=True)
class _Said:
    """What an agent says of itself."""

    host: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    resources: Mapping[str, Any] | None = None
    slots: int | None = None


@dataclass
class _Known:
    said: _Said
    written: float
    free: Resources
    draining: bool = False


class Presence:
    """The agents that were heard of. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def asked(self, request: LeaseRequest, now: float) -> None:
        """Note that an agent asks for work."""
        all_of_it = request.resources
        said = _Said(
            request.host,
            tuple(request.labels),
            None if all_of_it is None else asdict(all_of_it),
            None if all_of_it is None else request.slots,
        )
        self._seen(request.agent, said, request.free, now, write=False)

    def beat(self, name: str, heartbeat: Heartbeat, now: float) -> AgentRow:
        """Note an agent's heartbeat; return its row."""
        said = _Said(
            heartbeat.host,
            tuple(heartbeat.labels),
            asdict(heartbeat.resources),
            heartbeat.slots,
        )
        row = self._seen(name, said, heartbeat.free, now, write=True)
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                known.draining = heartbeat.draining
        assert row is not None  # noqa: S101 - it was written
        return row

    def free(self, name: str) -> Resources | None:
        """Return what an agent last said it has free; None: it has not spoken to this process."""
        with self._lock:
            known = self._known.get(name)
            return None if known is None else known.free

    def leaves(self, name: str) -> bool:
        """Say whether an agent has said that it takes no more work."""
        with self._lock:
            known = self._known.get(name)
            return known is not None and known.draining

    def forget(self, name: str) -> None:
        """Have the agent's next word written."""
        with self._lock:
            self._known.pop(name, None)

    def _seen(
        self, name: str, said: _Said, free: Resources, now: float, *, write: bool
    ) -> AgentRow | None:
        _check(name, said)
        _check_room(vars(free))
        _check_room(said.resources or {})
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                known.free = free
                fresh = known.said == said and 0 <= now - known.written < WRITE_EVERY_S
                if fresh and not write:
                    return None
        if said.resources is None and known is not None:
            said = _Said(said.host, said.labels, known.said.resources, known.said.slots)
        row = self._store.agent_seen(
            name,
            now=now,
            host=said.host,
            labels=said.labels,
            resources=said.resources,
            slots=said.slots,
        )
        if row.state == REMOVED:
            raise NotAllowed(f"agent {name} was removed; enroll it again")
        with self._lock:
            draining = known is not None and known.draining
            self._known[name] = _Known(said, now, free, draining)
        return row


def _check(name: str, said: _Said) -> None:
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise InvalidRequest(f"agent {name[:80]!r}: a name is 1 to 255 printable characters")
    if len(said.labels) > _MOST_LABELS:
        raise InvalidRequest(f"{len(said.labels)} labels: at most {_MOST_LABELS}")
    if said.slots is not None and not 0 <= said.slots <= _MOST_SLOTS:
        raise InvalidRequest(f"slots {said.slots}: it is 0 to {_MOST_SLOTS}")
    check_depth(said.host, "host")


def _check_room(room: Mapping[str, Any]) -> None:
    for name, amount in room.items():
        if not math.isfinite(amount):
            raise InvalidRequest(f"{name} {amount}: what an agent has is a number that ends")
