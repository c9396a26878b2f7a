"""
The store in memory: for tests, and for a server that is to keep nothing.

Keeps every promise of `store.base` but the one about ``kill -9``; the same suite holds it to them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.schedule import is_behind, queue_place
from physicsrunner.core.state import HELD, LEASABLE, TERMINAL, RunState
from physicsrunner.errors import NotFound, PhysicsRunnerError
from physicsrunner.store.base import Decide, Listener
from physicsrunner.store.memory_accounts import MemoryAccounts
from physicsrunner.store.memory_clock import MemoryClock, summary_of
from physicsrunner.store.memory_events import waits
from physicsrunner.store.memory_outbox import MemoryOutbox
from physicsrunner.store.outbox import Received
from physicsrunner.store.rows import Actor, AttemptRecord, Change, Offer, RunPage, Sealed
from physicsrunner.store.sql_counts import kinds
from physicsrunner.store.sql_ways import matches, simplified
from physicsrunner.wire.live import Event


class MemoryStore(MemoryClock, MemoryOutbox, MemoryAccounts):
    """Dictionaries behind one lock."""

    def __init__(self) -> None:
        super().__init__()
        self._last_number = 0
        self._secrets: dict[str, str] = {}
        self._attempts: dict[tuple[str, int], AttemptRecord] = {}

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with every batch of stored events, in order."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Keep everything: there is nothing to let go of."""

    # -- runs ----------------------------------------------------------------------------------

    def add_run(
        self,
        run: RunRecord,
        events: Sequence[Event],
        attempt: Mapping[str, Any] | None = None,
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> tuple[RunRecord, bool]:
        """Keep *run* under the next free number; return it, and whether it is new."""
        with self._lock:
            if run.id in self._runs:
                return copy.deepcopy(self._runs[run.id]), False
            self._last_number += 1
            kept = replace(copy.deepcopy(run), number=self._last_number)
            self._runs[run.id] = kept
            if secrets and run.id in secrets:
                self._secrets[run.id] = secrets[run.id]
            if attempt is not None:
                self._write_attempt(kept, attempt)
            self._tell(
                [replace(item, data={**item.data, "number": kept.number}) for item in events], by
            )
            return copy.deepcopy(kept), True

    def add_runs(
        self,
        items: Sequence[tuple[RunRecord, Sequence[Event]]],
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> list[tuple[RunSummary, bool]]:
        """Keep many runs as `add_run` keeps one, in their order and in one transaction."""
        with self._lock:
            kept = [self.add_run(run, said, by=by, secrets=secrets) for run, said in items]
        return [(summary_of(run), new) for run, new in kept]

    def delete_runs(
        self,
        ids: Sequence[str],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
        received: Received | None = None,
    ) -> list[str]:
        """Delete runs that have ended and are not pinned; return the ids of those that were."""
        with self._lock:
            gone = [
                run
                for run in dict.fromkeys(ids)
                if run in self._runs
                and self._runs[run].status in TERMINAL
                and not self._runs[run].pinned
            ]
            chosen = set(gone)
            for run in gone:
                del self._runs[run]
                self._secrets.pop(run, None)
            for key in [key for key in self._attempts if key[0] in chosen]:
                del self._attempts[key]
            for key in [key for key in self._files if key[0] in chosen]:
                del self._files[key]
            self._removed = [row for row in self._removed if row[0] not in chosen]
            self._events = [
                item for item in self._events if item.run not in chosen or waits(item, received)
            ]
            self._tell([item for item in events if item.run in chosen], by)
        return gone

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run without its heavy parts; None if there is none."""
        with self._lock:
            found = self._find(run)
            return None if found is None else summary_of(found)

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run with everything; None if there is none."""
        with self._lock:
            return copy.deepcopy(self._find(run))

    def summaries(self, runs: Sequence[str]) -> dict[str, RunSummary]:
        """Return those of *runs* that there are, by id, without their heavy parts."""
        with self._lock:
            return {run: summary_of(self._runs[run]) for run in runs if run in self._runs}

    def records(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return those of *runs* that there are, by id, with everything."""
        with self._lock:
            return {run: copy.deepcopy(self._runs[run]) for run in runs if run in self._runs}

    def inputs_named(self, after: int, limit: int) -> tuple[set[str], int | None]:
        """Return the inputs that runs over number *after* name, and up to which number that is."""
        with self._lock:
            rows = sorted(self._runs.values(), key=lambda run: run.number)
            found = [run for run in rows if run.number > after and run.inputs][:limit]
            named = {item["sha256"] for run in found for item in run.inputs}
        return named, found[-1].number if len(found) == limit else None

    def secrets(self, run: str) -> str | None:
        """Return the encrypted secrets of a run; None if it has none."""
        with self._lock:
            return self._secrets.get(run)

    def runs(self, wanted: RunFilter) -> RunPage:
        """Return one page of the runs that *wanted* describes."""
        asked = simplified(wanted)
        if asked is None:
            return RunPage([], 0)
        wanted, key = asked, asked.sort.removeprefix("-")

        def place(run: RunSummary) -> Any:
            value = getattr(run, key)
            # What is not known comes before what is; of the same state, the older.
            age = (run.created_at, run.number) if key == "status" else (run.number,)
            return (value is not None, 0 if value is None else value, *age)

        with self._lock:
            found = [summary_of(run) for run in self._runs.values() if _matches(run, wanted)]
        found.sort(key=place, reverse=wanted.sort.startswith("-"))
        return RunPage(found[wanted.offset : wanted.offset + wanted.limit], len(found))

    def counts(self, kind: str, key: str = "") -> dict[RunState, int]:
        """Return how many runs of each state there are; a state without runs is left out."""
        with self._lock:
            return dict(
                Counter(run.status for run in self._runs.values() if (kind, key) in kinds(run))
            )

    def change(
        self,
        decisions: Sequence[tuple[str, Decide]],
        *,
        by: Actor | None = None,
        sealed: Sealed | None = None,
    ) -> list[RunSummary | PhysicsRunnerError]:
        """Carry out the decisions in order, in one transaction."""
        answers: list[RunSummary | PhysicsRunnerError] = []
        told: list[Event] = []
        with self._lock:
            if sealed is not None:
                self._keep_sealed(sealed.files)
                told += sealed.events
            for run, decide in decisions:
                found = self._runs.get(run)
                if found is None:
                    answers.append(NotFound(f"there is no run {run}"))
                    continue
                try:
                    change = decide(summary_of(found))
                except PhysicsRunnerError as error:
                    answers.append(error)
                    continue
                answers.append(self._apply(found, change, told))
            self._tell(told, by)
        return answers

    def acquire(self, offer: Offer, decide: Decide, *, by: Actor | None = None) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""
        taken: list[RunSummary] = []
        told: list[Event] = []
        room = offer.room
        with self._lock:
            limit = self._allowed(offer)
            waiting = [run for run in self._runs.values() if _waits(run, offer.now)]
            for run in sorted(waiting, key=queue_place):
                if len(taken) >= limit or is_behind(run, offer.last):
                    break
                if not room.fits(run) or not has_labels(run, offer.labels) or self._is_full(run):
                    continue
                change = decide(summary_of(run))
                if change is not None:
                    taken.append(self._apply(run, change, told))
                    room = room.without(run)
            self._tell(told, by)
        return taken

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        with self._lock:
            return self._attempts.get((run, attempt))

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        with self._lock:
            return [item for (owner, _), item in sorted(self._attempts.items()) if owner == run]

    # -- inside --------------------------------------------------------------------------------

    def _find(self, run: str | int) -> RunRecord | None:
        if isinstance(run, str):
            return self._runs.get(run)
        return next((item for item in self._runs.values() if item.number == run), None)

    def _apply(self, run: RunRecord, change: Change | None, told: list[Event]) -> RunSummary:
        if change is None:
            return summary_of(run)
        body = dict(change.body)
        secrets = body.pop("secrets", None)
        changed = replace(run, **copy.deepcopy({**change.run, **body}))
        self._runs[run.id] = changed
        if secrets is not None:
            self._secrets[run.id] = secrets
        if change.attempt:
            self._write_attempt(changed, change.attempt)
        told.extend(change.events)
        return summary_of(changed)

    def _write_attempt(self, run: RunSummary, values: Mapping[str, Any]) -> None:
        key = (run.id, run.attempt)
        known = self._attempts.get(key)
        if known is not None:
            self._attempts[key] = replace(known, **values)
        else:
            self._attempts[key] = AttemptRecord(run_id=run.id, attempt=run.attempt, **values)

    def _allowed(self, offer: Offer) -> int:
        agent = self._agents.get(offer.agent or "")
        if agent is not None and agent.state != "active":
            return 0
        if offer.caps is None:
            return offer.limit
        return min(offer.limit, offer.caps - self._held("all", ""))

    def _is_full(self, run: RunSummary) -> bool:
        """Say whether the run's study or project runs as many as it may."""
        study = self._studies.get(run.study_id or "")
        caps = [("study", run.study_id, study.max_concurrent_runs if study else None)]
        caps.append(("project", run.project_id, self._project_cap(run.project_id)))
        return any(
            most is not None and key is not None and self._held(kind, key) >= most
            for kind, key, most in caps
        )

    def _project_cap(self, project: str | None) -> int | None:
        row = self._accounts.projects.get(project or "")
        return None if row is None else row.max_concurrent_runs

    def _held(self, kind: str, key: str) -> int:
        counts = self.counts(kind, key)
        return sum(counts.get(state, 0) for state in HELD)


def _waits(run: RunSummary, now: float) -> bool:
    due = run.not_before is None or run.not_before <= now
    return run.status in LEASABLE and not run.held and due


def _matches(run: RunSummary, wanted: RunFilter) -> bool:
    return matches(run, wanted) and (wanted.tag is None or wanted.tag in run.tags)
