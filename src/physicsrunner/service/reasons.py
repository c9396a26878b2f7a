"""
Gathering what must be known to say why a run is where it is; the words are `core.reasons`'s.

Promises: a run that is carried out or has ended costs nothing; for one that waits, who offers what
is read at most once a second, and how many are before it is counted up to a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.reasons import Cap, Offered, Situation, reason
from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, LEASABLE
from physicsrunner.service.presence import ACTIVE
from physicsrunner.store.base import AgentRow, Store
from physicsrunner.wire import live

REMEMBER_S: Final = 1.0
MOST_BEFORE: Final = 100
GONE_S: Final = 300.0  # an agent that was not heard of for so long is not counted on
_EVENTS: Final = 1000


@dataclass(frozen=True)
class _Agents:
    read_at: float
    offered: tuple[Offered, ...]
    others: int


class Reasons:
    """Says why runs are where they are. Thread-safe."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        terms: LeaseTerms,
        max_concurrent_runs: int | None = None,
    ) -> None:
        self._store = store
        self._now = now
        self._terms = terms
        self._cap = max_concurrent_runs
        self._lock = threading.Lock()
        self._agents: _Agents | None = None

    def of(self, run: RunSummary) -> str:
        """Return why *run* is where it is."""
        return reason(run, self._situation(run), self._now())

    def of_many(self, runs: Sequence[RunSummary]) -> list[str]:
        """Return why *runs*, in the queue's order from its head on, are where they are."""
        now, ahead, said = self._now(), 0, []
        for run in runs:
            said.append(reason(run, self._situation(run, before=ahead), now))
            ahead += run.status in LEASABLE and not run.held
        return said

    def _situation(self, run: RunSummary, before: int | None = None) -> Situation:
        terms = self._terms
        if run.status not in LEASABLE:
            return Situation(terms.lease_s, terms.grace_s)
        if run.held:
            return Situation(terms.lease_s, terms.grace_s, held_by=self._holder(run))
        known = self._known()
        if before is None:
            before = self._store.waiting_before(run, MOST_BEFORE + 1)
        return Situation(
            terms.lease_s,
            terms.grace_s,
            agents=known.offered,
            others=known.others,
            caps=self._caps(run),
            before=min(before, MOST_BEFORE),
            more=before > MOST_BEFORE,
        )

    def _known(self) -> _Agents:
        now = self._now()
        with self._lock:
            known = self._agents
        if known is not None and 0 <= now - known.read_at < REMEMBER_S:
            return known
        rows = self._store.agents()
        there = [row for row in rows if row.state == ACTIVE and now - row.last_seen < GONE_S]
        offered = tuple(Offered(_room(row), tuple(row.labels)) for row in there)
        known = _Agents(now, offered, len(rows) - len(there))
        with self._lock:
            self._agents = known
        return known

    def _caps(self, run: RunSummary) -> list[Cap]:
        caps = []
        if self._cap is not None:
            caps.append(Cap("the server", self._cap, self._running("all", "")))
        if run.project_id is not None:
            project = run.project_id
            row = self._store.read_accounts(lambda book: book.project(project))
            if row is not None and row.max_concurrent_runs is not None:
                running = self._running("project", project)
                caps.append(Cap(f"project {project}", row.max_concurrent_runs, running))
        if run.study_id is not None:
            study = self._store.study(run.study_id)
            if study is not None and study.max_concurrent_runs is not None:
                running = self._running("study", study.id)
                caps.append(Cap(f"study {study.name}", study.max_concurrent_runs, running))
        return caps

    def _running(self, kind: str, key: str) -> int:
        counts = self._store.counts(kind, key)
        return sum(counts.get(state, 0) for state in HELD)

    def _holder(self, run: RunSummary) -> str | None:
        """Return who holds a run: its latest event of that kind says it."""
        for event in reversed(self._store.events(run.id, limit=_EVENTS)):
            if event.type == live.HELD:
                found: Any = event.data.get("requested_by")
                return found if isinstance(found, str) else None
        return None


def _room(row: AgentRow) -> Room:
    """Return all that an agent has; one that has not said it offers as much as anybody needs."""
    if not row.resources:
        endless = float("inf")
        return Room(endless, endless, 1_000_000, endless)
    names = ("cpu_cores", "memory_gb", "gpu_count", "storage_gb")
    return Room(**{name: row.resources.get(name, 0) for name in names})
