"""
Gathering what must be known to say why a run is where it is; the words are `core.reasons`'s.

Promises: a run that is carried out or has ended costs nothing, unless somebody asked for where it
stands: who that was is looked up; for one that waits, who offers what is read at most once a
second, and how many are before it is counted up to a bound. A list reads nothing run by run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.reasons import Away, Cap, Offered, Situation, duration, reason
from physicsrunner.core.resources import Room, labels_of
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, LEASABLE, RunState
from physicsrunner.service.presence import ACTIVE
from physicsrunner.store.base import AgentRow, Store
from physicsrunner.wire import live

REMEMBER_S: Final = 1.0
MOST_BEFORE: Final = 100
_EVENTS: Final = 1000


@dataclass(frozen=True)
class _Agents:
    read_at: float
    offered: tuple[Offered, ...]
    others: tuple[Away, ...]


class Reasons:
    """Says why runs are where they are. Thread-safe."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        terms: LeaseTerms,
        leaves: Callable[[str], bool],
        max_concurrent_runs: int | None = None,
    ) -> None:
        self._store = store
        self._leaves = leaves
        self._now = now
        self._terms = terms
        self._cap = max_concurrent_runs
        self._lock = threading.Lock()
        self._agents: _Agents | None = None

    def of(self, run: RunSummary) -> str:
        """Return why *run* is where it is."""
        return reason(run, self._situation(run), self._now())

    def held_back(self, run: RunSummary) -> bool:
        """Say whether a cap of the server, its project or its study keeps *run* waiting now."""
        return any(cap.is_full for cap in self._caps(run))

    def of_many(self, runs: Sequence[RunSummary]) -> list[str]:
        """Return why *runs*, in the queue's order from its head on, are where they are."""
        now, ahead, said = self._now(), 0, []
        for run in runs:
            said.append(reason(run, self._situation(run, before=ahead), now))
            ahead += run.status in LEASABLE and not run.held
        return said

    def in_list(self, runs: Sequence[RunSummary]) -> list[str]:
        """Return why *runs* are where they are, without what must be read for each of them."""
        now, terms = self._now(), self._terms
        caps: dict[tuple[str | None, str | None], list[Cap]] = {}
        said = []
        for run in runs:
            situation = Situation(terms.lease_s, terms.grace_s)
            if run.status in LEASABLE and not run.held:
                owners = run.project_id, run.study_id
                if owners not in caps:
                    caps[owners] = self._caps(run)
                known = self._known()
                situation = replace(
                    situation,
                    agents=known.offered,
                    others=known.others,
                    caps=caps[owners],
                    before=None,
                )
            said.append(reason(run, situation, now))
        return said

    def _situation(self, run: RunSummary, before: int | None = None) -> Situation:
        terms = self._terms
        if run.status not in LEASABLE or run.held:
            return Situation(terms.lease_s, terms.grace_s, asked_by=self._asked_by(run))
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
        offered: list[Offered] = []
        others: list[Away] = []
        for row in self._store.agents():
            why = self._why_away(row, now)
            if why is None:
                offered.append(Offered(_room(row), labels_of(row.id, row.labels)))
            else:
                others.append(Away(row.id, why, _room(row), labels_of(row.id, row.labels)))
        known = _Agents(now, tuple(offered), tuple(others))
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

    def _why_away(self, row: AgentRow, now: float) -> str | None:
        """Return why an agent takes no work now; None: it does."""
        silent = now - row.last_seen
        if silent > self._terms.lease_s:
            return f"not heard of for {duration(silent)}"
        if row.state != ACTIVE:
            return _state_words(row)
        return "it is leaving" if self._leaves(row.id) else None

    def _asked_by(self, run: RunSummary) -> str | None:
        """Return who asked for what the run stands at: its latest event of that kind says it."""
        kinds = _asked_in(run)
        if not kinds:
            return None
        for event in reversed(self._store.events(run.id, limit=_EVENTS)):
            found: Any = event.data.get("requested_by")
            if event.type in kinds and isinstance(found, str):
                return found
        return None


def _asked_in(run: RunSummary) -> tuple[str, ...]:
    """Return the types of the events that say who asked."""
    if run.status is RunState.CANCELLED:
        return live.CANCELLED, live.CANCEL_REQUESTED
    if run.status in LEASABLE:
        return (live.HELD,) if run.held else ()
    if run.status not in HELD or run.unreachable:
        return ()
    if run.cancel_requested:
        return (live.CANCEL_REQUESTED,)
    if run.pause_requested:
        return (live.PAUSE_REQUESTED,)
    return (live.RESUME_REQUESTED,) if run.status is RunState.PAUSED else ()


def _state_words(row: AgentRow) -> str:
    """Return *drained by ada*, *paused: 5 runs in a row failed...*."""
    if not row.reason:
        return row.state
    return row.reason if row.reason.startswith("drained") else f"{row.state}: {row.reason}"


def _room(row: AgentRow) -> Room:
    """Return all that an agent has; one that has not said it offers as much as anybody needs."""
    if not row.resources:
        endless = float("inf")
        return Room(endless, endless, 1_000_000, endless)
    names = ("cpu_cores", "memory_gb", "gpu_count", "storage_gb")
    return Room(**{name: row.resources.get(name, 0) for name in names})
