"""
How long ended runs stay: by age, by number, and as a door's own document promises.

Promises: nothing is removed unless the operator decided it; a pinned run and one that has not ended
never are; a run goes with its rows, its events and its files (`service.removal`), and only the fact
that it was deleted stays. That fact and the events of accounts, agents and webhooks are the audit:
they stay unless a setting of their own says for how long. No event goes while a receiver waits for
it (`service.received`). A step is small, so that the server's other work goes on between two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from physicsrunner.service.options import DAY_S, Keep, ServerOptions
from physicsrunner.service.removal import Removal
from physicsrunner.service.unused import UnusedInputs
from physicsrunner.store.base import Store

SLICE: Final = 50  #: runs in one step
EVENTS: Final = 2_000  #: events in one step


@dataclass(frozen=True)
class Step:
    """What one step removed, and whether there may be more."""

    runs: tuple[str, ...] = ()
    events: int = 0
    inputs: int = 0
    more: bool = False


class Retention:
    """Removes what is to be removed, step by step. One thread calls it."""

    def __init__(
        self, store: Store, removal: Removal, unused: UnusedInputs, options: ServerOptions
    ) -> None:
        self._store = store
        self._unused = unused
        self._removal = removal
        self._options = options

    def step(self, now: float) -> Step:
        """Remove at most `SLICE` runs, or `EVENTS` events and inputs, that are old at *now*."""
        for keep, door in self._rules():
            found = self._store.ended(keep.before(now), keep.runs, door, SLICE)
            if found:
                # One that was pinned meanwhile stays; then there is nothing to hurry for.
                gone = self._removal.remove(found)
                return Step(tuple(gone), more=bool(gone))
        events = self._prune(now)
        if events >= EVENTS:
            return Step(events=events, more=True)
        inputs, more = self._unused.step(now)
        return Step(events=events, inputs=inputs, more=more)

    def _prune(self, now: float) -> int:
        """Remove events of no run there is; return how many."""
        audit = None if (days := self._options.audit_days) is None else now - days * DAY_S
        # What is left of removed runs waited for a receiver; it is no part of the audit.
        left, events = self._options.keep.before(now), 0
        received = None if audit is left is None else self._removal.received()
        for before, kind in ((audit, True), (left, False)):
            if before is not None:
                room = EVENTS - events
                events += self._store.prune_events(before, room, audit=kind, received=received)
            if events >= EVENTS:
                break
        return events

    def _rules(self) -> Iterator[tuple[Keep, str | None]]:
        for door, keep in self._options.door_keep.items():
            if not keep.everything:
                yield keep, door
        if not self._options.keep.everything:
            yield self._options.keep, None
