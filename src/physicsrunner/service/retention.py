"""
How long ended runs stay: by age, by number, and as a door's own document promises.

Promises: nothing is removed unless the operator decided it; a pinned run and one that has not ended
never are; a run goes with its rows, its events and its files (`service.removal`), and only the fact
that it was deleted stays, until that is as old. A step is small, so that the server's other work
goes on between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from physicsrunner.service.options import Keep, ServerOptions
from physicsrunner.service.removal import Removal
from physicsrunner.store.base import Store

SLICE: Final = 50  #: runs in one step
EVENTS: Final = 2_000  #: events in one step


@dataclass(frozen=True)
class Step:
    """What one step removed, and whether there may be more."""

    runs: tuple[str, ...] = ()
    events: int = 0
    more: bool = False


class Retention:
    """Removes what is to be removed, step by step. One thread calls it."""

    def __init__(self, store: Store, removal: Removal, options: ServerOptions) -> None:
        self._store = store
        self._removal = removal
        self._options = options

    def step(self, now: float) -> Step:
        """Remove at most `SLICE` runs and `EVENTS` events whose time is over at *now*."""
        for keep, door in self._rules():
            found = self._store.ended(keep.before(now), keep.runs, door, SLICE)
            if found:
                # One that was pinned meanwhile stays; then there is nothing to hurry for.
                gone = self._removal.remove(found)
                return Step(tuple(gone), more=bool(gone))
        before = self._options.keep.before(now)
        events = 0 if before is None else self._store.prune_events(before, EVENTS)
        return Step(events=events, more=events >= EVENTS)

    def _rules(self) -> Iterator[tuple[Keep, str | None]]:
        for door, keep in self._options.door_keep.items():
            if not keep.everything:
                yield keep, door
        if not self._options.keep.everything:
            yield self._options.keep, None
