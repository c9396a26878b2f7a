"""Files, models, uploads, agents and studies in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from physicsrunner.errors import NotFound
from physicsrunner.store.memory_events import MemoryEvents
from physicsrunner.store.rows import Actor, AgentRow, FileRow, ModelRow, StudyFilter, StudyRow
from physicsrunner.wire.live import Event


class MemorySide(MemoryEvents):
    """Dictionaries of what stands beside the runs."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[tuple[str, int], dict[str, FileRow]] = {}
        self._removed: list[tuple[str, int, FileRow, float]] = []
        self._models: list[ModelRow] = []
        self._uploads: dict[str, tuple[int, float]] = {}  # SHA-256 -> size, when it was sent
        self._senders: set[tuple[str, str]] = set()
        self._agents: dict[str, AgentRow] = {}
        self._studies: dict[str, StudyRow] = {}

    # -- files ---------------------------------------------------------------------------------

    def seal(
        self,
        files: Mapping[tuple[str, int], Sequence[FileRow]],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
    ) -> None:
        """Keep *files* of attempts (run, number) as sealed, once for each path; write *events*."""
        with self._lock:
            self._keep_sealed(files)
            self._tell(events, by)

    def _keep_sealed(self, files: Mapping[tuple[str, int], Sequence[FileRow]]) -> None:
        for key, rows in files.items():
            self._files.setdefault(key, {}).update((row.path, row) for row in rows)

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

    # -- models, uploads, agents, studies ------------------------------------------------------

    def add_model(
        self,
        row: ModelRow,
        new_id: str,
        told: Callable[[ModelRow], Event] | None = None,
        *,
        by: Actor | None = None,
    ) -> ModelRow:
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
            if told is not None:
                self._tell([told(kept)], by)
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

    def add_upload(self, sha256: str, size: int, told: Event, *, by: Actor) -> None:
        """Keep that *by* has sent an input, and write *told*; a repeat changes nothing."""
        with self._lock:
            self._uploads.setdefault(sha256, (size, told.time))
            if (sha256, by.name) not in self._senders:
                self._senders.add((sha256, by.name))
                self._tell([told], by)

    def sent_input(self, sha256: str, user: str) -> bool:
        """Say whether *user* has sent the input of that content."""
        with self._lock:
            return (sha256, user) in self._senders

    def upload(self, sha256: str) -> int | None:
        """Return the size in bytes of an uploaded input; None if there is none."""
        with self._lock:
            found = self._uploads.get(sha256)
            return None if found is None else found[0]

    def uploads_before(self, before: float, after: str, limit: int) -> Mapping[str, int]:
        """Return inputs that were first sent before *before*: SHA-256 over *after* -> size."""
        with self._lock:
            old = [
                (key, size)
                for key, (size, sent) in self._uploads.items()
                if sent < before and key > after
            ]
        return dict(sorted(old)[:limit])

    def remove_uploads(self, keys: Sequence[str], events: Sequence[Event]) -> None:
        """Forget inputs, and who has sent them; write *events*."""
        with self._lock:
            for key in keys:
                self._uploads.pop(key, None)
            self._senders = {pair for pair in self._senders if pair[0] not in keys}
            self._tell(events)

    def agent_seen(
        self,
        agent: str,
        *,
        now: float,
        host: Mapping[str, Any],
        labels: Sequence[str],
        resources: Mapping[str, Any] | None = None,
        slots: int | None = None,
    ) -> AgentRow:
        """Keep that an agent was heard of and what it has; return its row."""
        with self._lock:
            known = self._agents.get(agent) or AgentRow(agent, now, now)
            self._agents[agent] = replace(
                known,
                last_seen=now,
                host=dict(host),
                labels=list(labels),
                resources=known.resources if resources is None else dict(resources),
                slots=known.slots if slots is None else slots,
            )
            return self._agents[agent]

    def agent(self, name: str) -> AgentRow | None:
        """Return an agent, also a removed one; None if it was never heard of."""
        with self._lock:
            return self._agents.get(name)

    def agents(self) -> list[AgentRow]:
        """Return all agents but the removed ones, by name."""
        with self._lock:
            rows = [row for _, row in sorted(self._agents.items())]
        return [row for row in rows if row.state != "removed"]

    def change_agent(
        self,
        name: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> AgentRow:
        """Change fields of `AgentRow` and write *events*; raise `NotFound` if it is unknown."""
        with self._lock:
            if name not in self._agents:
                raise NotFound(f"there is no agent {name}")
            self._agents[name] = replace(self._agents[name], **fields)
            self._tell(events, by)
            return self._agents[name]

    def remove_agent(
        self, name: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Put an agent into state removed; say whether it was there."""
        with self._lock:
            present = self._agents.get(name)
            if present is None or present.state == "removed":
                return False
            self._agents[name] = replace(present, state="removed")
            self._tell(events, by)
            return True

    def add_study(self, row: StudyRow, told: Event, *, by: Actor | None = None) -> StudyRow:
        """Keep a study and write *told*; one of that id that is there stays and is returned."""
        with self._lock:
            if row.id not in self._studies:
                self._studies[row.id] = row
                self._tell([told], by)
            return self._studies[row.id]

    def cap_study(self, study_id: str, cap: int | None, told: Event) -> None:
        """Let *cap* runs of a study run at once from now on, and write *told*."""
        with self._lock:
            self._studies[study_id] = replace(self._studies[study_id], max_concurrent_runs=cap)
            self._tell([told], None)

    def study(self, study_id: str) -> StudyRow | None:
        """Return a study; None if there is none."""
        with self._lock:
            return self._studies.get(study_id)

    def studies(self, wanted: StudyFilter) -> list[StudyRow]:
        """Return one page of the studies that *wanted* describes, the latest first."""
        with self._lock:
            found = [row for row in self._studies.values() if _is_wanted(row, wanted)]
        found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        return found[wanted.offset : wanted.offset + wanted.limit]


def _is_wanted(row: StudyRow, wanted: StudyFilter) -> bool:
    if wanted.project_id not in (None, row.project_id) or wanted.name not in (None, row.name):
        return False
    if wanted.projects is None:
        return True
    if row.project_id is None:
        return row.created_by == wanted.creator
    return row.project_id in wanted.projects
