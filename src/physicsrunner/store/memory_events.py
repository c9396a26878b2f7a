"""Events in memory: the log that every other part of `MemoryStore` stands on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace

from physicsrunner.core.run import RunRecord
from physicsrunner.store.base import Listener
from physicsrunner.store.outbox import Received
from physicsrunner.store.rows import Actor
from physicsrunner.wire import live
from physicsrunner.wire.live import Event


class MemoryEvents:
    """A list of events behind the lock of the whole store."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._runs: dict[str, RunRecord] = {}
        self._events: list[Event] = []  # ascending ids
        self._last_event = 0
        self._listeners: list[Listener] = []

    def append_events(self, events: Sequence[Event], *, by: Actor | None = None) -> list[Event]:
        """Write *events*, and return them with their ids."""
        with self._lock:
            return self._tell(events, by)

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        with self._lock:
            wanted = [
                item
                for item in self._events
                if (item.id or 0) > after and (run is None or item.run == run)
            ]
        return copy.deepcopy(wanted[:limit])

    def prune_events(
        self,
        before: float,
        limit: int = 10_000,
        *,
        audit: bool = True,
        received: Received | None = None,
    ) -> int:
        """Delete events of before *before* that belong to no run there is; return how many."""
        with self._lock:
            old = [
                item.id
                for item in self._events
                if item.time < before
                and item.run not in self._runs
                and (item.run is None or item.type == live.DELETED) is audit
                and not waits(item, received)
            ][:limit]
            gone = set(old)
            self._events = [item for item in self._events if item.id not in gone]
        return len(old)

    def _tell(self, events: Sequence[Event], by: Actor | None = None) -> list[Event]:
        if by is not None:
            events = [replace(item, actor=by.name, origin=by.origin) for item in events]
        first = self._last_event + 1
        told = [replace(item, id=first + place) for place, item in enumerate(events)]
        self._last_event += len(told)
        self._events.extend(copy.deepcopy(told))
        if told:
            for listener in self._listeners:
                listener(told)
        return told


def waits(event: Event, received: Received | None) -> bool:
    """Say whether somebody is still to be told of *event*."""
    if received is None:
        return False
    return (event.id or 0) > received.upto and event.time >= received.since
