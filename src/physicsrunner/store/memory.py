"""
The store in memory: for tests, and for a server that is to keep nothing.

Keeps every promise of `store.base` but the one about ``kill -9``; the same suite holds it to them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import HELD, LEASABLE, RunState
from physicsrunner.errors import NotFound, PhysicsRunnerError
from physicsrunner.store.base import (
    AttemptRecord,
    Change,
    Decide,
    FileRow,
    Listener,
    ModelRow,
    Offer,
)
from physicsrunner.store.memory_outbox import MemoryOutbox
from physicsrunner.wire.live import Event

_SUMMARY = tuple(field.name for field in fields(RunSummary))


class MemoryStore(MemoryOutbox):
    """Dictionaries behind one lock."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._runs: dict[str, RunRecord] = {}
        self._attempts: dict[tuple[str, int], AttemptRecord] = {}
        self._files: dict[tuple[str, int], dict[str, FileRow]] = {}
        self._removed: list[tuple[str, int, FileRow, float]] = []
        self._models: list[ModelRow] = []
        self._uploads: dict[str, int] = {}
        self._agents: dict[str, dict[str, Any]] = {}
        self._events: list[Event] = []
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with every batch of stored events, in order."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Keep everything: there is nothing to let go of."""

    # -- runs ----------------------------------------------------------------------------------

    def add_run(
        self, run: RunRecord, events: Sequence[Event], attempt: Mapping[str, Any] | None = None
    ) -> tuple[RunRecord, bool]:
        """Keep *run* under the next free number; return it, and whether it is new."""
        with self._lock:
            if run.id in self._runs:
                return copy.deepcopy(self._runs[run.id]), False
            kept = replace(copy.deepcopy(run), number=len(self._runs) + 1)
            self._runs[run.id] = kept
            if attempt is not None:
                self._write_attempt(kept, attempt)
            self._tell(
                [replace(item, data={**item.data, "number": kept.number}) for item in events]
            )
            return copy.deepcopy(kept), True

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run without its heavy parts; None if there is none."""
        with self._lock:
            found = self._find(run)
            return None if found is None else _summary(found)

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run with everything; None if there is none."""
        with self._lock:
            return copy.deepcopy(self._find(run))

    def runs(self, wanted: RunFilter) -> tuple[list[RunSummary], int]:
        """Return one page of the runs that *wanted* describes, and how many there are in all."""
        key = wanted.sort.removeprefix("-")

        def place(run: RunSummary) -> tuple[bool, Any, int]:
            value = getattr(run, key)
            # As SQLite orders: what is not known comes before what is.
            return (value is not None, 0 if value is None else value, run.number)

        with self._lock:
            found = [_summary(run) for run in self._runs.values() if _matches(run, wanted)]
        found.sort(key=place, reverse=wanted.sort.startswith("-"))
        return found[wanted.offset : wanted.offset + wanted.limit], len(found)

    def change(
        self, decisions: Sequence[tuple[str, Decide]]
    ) -> list[RunSummary | PhysicsRunnerError]:
        """Carry out the decisions in order, in one transaction."""
        answers: list[RunSummary | PhysicsRunnerError] = []
        told: list[Event] = []
        with self._lock:
            for run, decide in decisions:
                found = self._runs.get(run)
                if found is None:
                    answers.append(NotFound(f"there is no run {run}"))
                    continue
                try:
                    change = decide(_summary(found))
                except PhysicsRunnerError as error:
                    answers.append(error)
                    continue
                answers.append(self._apply(found, change, told))
            self._tell(told)
        return answers

    def acquire(self, offer: Offer, decide: Decide) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""
        taken: list[RunSummary] = []
        told: list[Event] = []
        room = offer.room
        with self._lock:
            waiting = [run for run in self._runs.values() if _waits(run, offer.now)]
            for run in sorted(waiting, key=lambda run: (-run.priority, run.number)):
                if len(taken) >= offer.limit:
                    break
                if not room.fits(run) or not has_labels(run, offer.labels):
                    continue
                change = decide(_summary(run))
                if change is not None:
                    taken.append(self._apply(run, change, told))
                    room = room.without(run)
            self._tell(told)
        return taken

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""
        with self._lock:
            return [
                run.id
                for run in self._runs.values()
                if run.status in HELD
                and run.deadline is not None
                and run.deadline < now
                and not run.unreachable
            ][:limit]

    def unconfirmed(self, agent: str) -> list[RunSummary]:
        """Return the runs leased to *agent* of which it has not been heard since."""
        with self._lock:
            return [
                _summary(run)
                for run in self._runs.values()
                if run.agent == agent
                and run.status is RunState.PREPARING
                and not run.confirmed
                and not run.claimed
            ]

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        with self._lock:
            return self._attempts.get((run, attempt))

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        with self._lock:
            return [item for (owner, _), item in sorted(self._attempts.items()) if owner == run]

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        """Write *events*, and return them with their ids."""
        with self._lock:
            return self._tell(events)

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        with self._lock:
            wanted = [item for item in self._events[after:] if run is None or item.run == run]
        return copy.deepcopy(wanted[:limit])

    # -- files ---------------------------------------------------------------------------------

    def seal(
        self, run: str, attempt: int, files: Sequence[FileRow], events: Sequence[Event]
    ) -> None:
        """Keep *files* as sealed, in place of rows of the same paths, and write *events*."""
        with self._lock:
            kept = self._files.setdefault((run, attempt), {})
            kept.update((row.path, row) for row in files)
            self._tell(events)

    def unseal(self, run: str, attempt: int, path: str, *, removed_at: float | None = None) -> None:
        """Forget that a file is sealed; with *removed_at* keep the row among the removed files."""
        with self._lock:
            row = self._files.get((run, attempt), {}).pop(path, None)
            if row is not None and removed_at is not None:
                self._removed.append((run, attempt, row, removed_at))

    def sealed(
        self, run: str, attempt: int, paths: Sequence[str] | None = None
    ) -> dict[str, FileRow]:
        """Return the sealed files of an attempt by path: all, or those of *paths*."""
        with self._lock:
            rows = self._files.get((run, attempt), {})
            if paths is None:
                return dict(rows)
            return {path: rows[path] for path in paths if path in rows}

    # -- models, uploads, agents ---------------------------------------------------------------

    def add_model(self, row: ModelRow, new_id: str) -> ModelRow:
        """Keep a version of the model of that name; return it with the model's id."""
        with self._lock:
            named = [
                item
                for item in self._models
                if (item.name, item.project_id) == (row.name, row.project_id)
            ]
            for item in named:
                if item.version == row.version:
                    return item
            kept = replace(row, id=named[0].id if named else new_id)
            for item in self._models:
                if item.version == row.version:
                    kept = replace(kept, size=item.size, sha256=item.sha256)
                    break
            self._models.append(kept)
            return kept

    def model(self, model_id: str, version: str | None = None) -> ModelRow | None:
        """Return that version, or the newest; None if there is none."""
        with self._lock:
            found = [
                row for row in self._models if row.id == model_id and version in (None, row.version)
            ]
        return max(found, key=lambda row: row.created, default=None)

    def models(self) -> list[ModelRow]:
        """Return the newest version of every model, the latest first."""
        newest: dict[str, ModelRow] = {}
        with self._lock:
            for row in sorted(self._models, key=lambda row: row.created, reverse=True):
                newest.setdefault(row.id, row)
        return list(newest.values())

    def add_upload(self, sha256: str, size: int, *, by: str, now: float) -> None:  # noqa: ARG002
        """Keep that an input of this content lies in the folder of inputs."""
        with self._lock:
            self._uploads.setdefault(sha256, size)

    def upload(self, sha256: str) -> int | None:
        """Return the size in bytes of an uploaded input; None if there is none."""
        with self._lock:
            return self._uploads.get(sha256)

    def agent_seen(
        self, agent: str, *, now: float, host: Mapping[str, Any], labels: Sequence[str]
    ) -> None:
        """Keep that an agent was heard of."""
        with self._lock:
            kept = self._agents.setdefault(agent, {"id": agent, "first_seen": now})
            kept.update(host=dict(host), labels=list(labels), last_seen=now)

    def agents(self) -> list[dict[str, Any]]:
        """Return all agents: id, host, labels, first_seen, last_seen (POSIX seconds)."""
        with self._lock:
            return [dict(kept) for _, kept in sorted(self._agents.items())]

    # -- inside --------------------------------------------------------------------------------

    def _find(self, run: str | int) -> RunRecord | None:
        if isinstance(run, str):
            return self._runs.get(run)
        return next((item for item in self._runs.values() if item.number == run), None)

    def _apply(self, run: RunRecord, change: Change | None, told: list[Event]) -> RunSummary:
        if change is None:
            return _summary(run)
        changed = replace(run, **copy.deepcopy({**change.run, **change.body}))
        self._runs[run.id] = changed
        if change.attempt:
            self._write_attempt(changed, change.attempt)
        told.extend(change.events)
        return _summary(changed)

    def _write_attempt(self, run: RunSummary, values: Mapping[str, Any]) -> None:
        key = (run.id, run.attempt)
        known = self._attempts.get(key)
        if known is not None:
            self._attempts[key] = replace(known, **values)
        else:
            self._attempts[key] = AttemptRecord(run_id=run.id, attempt=run.attempt, **values)

    def _tell(self, events: Sequence[Event]) -> list[Event]:
        first = len(self._events) + 1
        told = [replace(item, id=first + place) for place, item in enumerate(events)]
        self._events.extend(copy.deepcopy(told))
        if told:
            for listener in self._listeners:
                listener(told)
        return told


def _summary(run: RunSummary) -> RunSummary:
    return RunSummary(**{name: copy.copy(getattr(run, name)) for name in _SUMMARY})


def _waits(run: RunSummary, now: float) -> bool:
    due = run.not_before is None or run.not_before <= now
    return run.status in LEASABLE and not run.held and due


def _matches(run: RunSummary, wanted: RunFilter) -> bool:
    return (
        (not wanted.status or run.status in wanted.status)
        and wanted.project_id in (None, run.project_id)
        and wanted.model_id in (None, run.model_id)
        and wanted.created_by in (None, run.created_by)
        and wanted.agent in (None, run.agent)
        and (not wanted.name or wanted.name.lower() in run.name.lower())
        and (wanted.tag is None or wanted.tag in run.tags)
    )
