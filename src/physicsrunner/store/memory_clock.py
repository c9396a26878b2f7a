"""What the clock and the queue page ask of the runs in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.schedule import queue_place
from physicsrunner.core.state import HELD, LEASABLE, TERMINAL, RunState
from physicsrunner.store.memory_side import MemorySide

_SUMMARY: Final = tuple(field.name for field in fields(RunSummary))


class MemoryClock(MemorySide):
    """Questions about time."""

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""

        def late(run: RunSummary) -> bool:
            past = run.deadline is not None and run.deadline < now
            return run.status in HELD and past and not run.unreachable

        return [run.id for run in self._having(late)][:limit]

    def lost(self, now: float, grace_s: float, limit: int = 1000) -> list[RunSummary]:
        """Return unreachable runs whose deadline is more than *grace_s* seconds ago."""

        def gone(run: RunSummary) -> bool:
            past = run.deadline is not None and run.deadline < now - grace_s
            forever = run.on_lost_contact == "wait"
            return run.status in HELD and past and run.unreachable and not forever

        return self._having(gone)[:limit]

    def waiting_too_long(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs that wait longer than their ``queue_limit_s``."""

        def tired(run: RunSummary) -> bool:
            if run.status not in LEASABLE or run.held or run.queue_limit_s is None:
                return False
            since = run.created_at if run.not_before is None else run.not_before
            return since + run.queue_limit_s < now

        return [run.id for run in self._having(tired)][:limit]

    def oldest_waiting(self, limit: int = 50) -> list[RunSummary]:
        """Return the runs that wait, held ones too, in the queue's order."""
        waiting = self._having(lambda run: run.status in LEASABLE)
        return sorted(waiting, key=queue_place)[:limit]

    def waiting_before(self, run: RunSummary, limit: int = 1000) -> int:
        """Return how many runs the queue has before *run*, counted up to *limit*."""

        def ahead(other: RunSummary) -> bool:
            before = queue_place(other) < queue_place(run)
            return other.status in LEASABLE and not other.held and before

        return min(limit, len(self._having(ahead)))

    def unconfirmed(self, agent: str) -> list[tuple[str, int]]:
        """Return attempts leased to *agent* of which it has not been heard since: run, number."""

        def silent(run: RunSummary) -> bool:
            fresh = not run.confirmed and not run.claimed
            return run.agent == agent and run.status is RunState.PREPARING and fresh

        return [(run.id, run.attempt) for run in self._having(silent)]

    def active_on(self, agent: str) -> list[RunSummary]:
        """Return the runs that *agent* holds now, by their number."""
        return self._having(lambda run: run.agent == agent and run.status in HELD)

    def ended(
        self,
        before: float | None = None,
        keep: int | None = None,
        door: str | None = None,
        limit: int = 1000,
    ) -> list[str]:
        """Return the ids of ended runs that retention may delete, the oldest first."""
        found = self._having(
            lambda run: run.status in TERMINAL and not run.pinned and door in (None, run.door)
        )
        found.sort(key=lambda run: (run.completed_at or 0.0, run.number))
        beyond = 0 if keep is None else max(0, len(found) - keep)
        chosen = [run.id for run in found[:beyond]]
        if before is not None:
            chosen += [run.id for run in found if (run.completed_at or 0.0) < before]
        return list(dict.fromkeys(chosen))[:limit]

    def _having(self, condition: Callable[[RunRecord], bool]) -> list[RunSummary]:
        with self._lock:
            found = [summary_of(run) for run in self._runs.values() if condition(run)]
        return sorted(found, key=lambda run: run.number)


def summary_of(run: RunSummary) -> RunSummary:
    """Return a copy of *run* without its heavy parts."""
    return RunSummary(**{name: copy.copy(getattr(run, name)) for name in _SUMMARY})
