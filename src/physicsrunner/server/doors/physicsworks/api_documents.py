"""
Our records as documents of the published API client. Pure.

Promises: every document has ``id`` and ``_id``; times are ISO 8601 in UTC with microseconds, so
that a job is never older than the call that asked for it; which word a state has at which kind of
document is said here once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.server.doors.physicsworks import book as books
from physicsrunner.server.doors.physicsworks.inputs import run_inputs
from physicsrunner.service.cases import SavedCase
from physicsrunner.service.fleet import AgentInfo
from physicsrunner.service.people import Project
from physicsrunner.wire.messages import StoredFile
from physicsrunner.wire.physicsworks import ABORTED_LABEL, STATUS_OF

#: Where what belongs to no project is; config.json of our runs says so, too.
NO_PROJECT: Final = "default"
RUN: Final = "Run"  #: the kind of all our jobs
#: The state of a run -> the word of its job.
JOB_STATUS: Final[Mapping[RunState, str]] = MappingProxyType(
    {
        **STATUS_OF,
        RunState.FAILED: "failed",
        RunState.TIMEOUT: "failed",
        RunState.CANCELLED: "canceled",
    }
)
_SAME: Final = {"cancelled": "canceled", "error": "failed"}  #: also said for it
GRAPHICS: Final = "graphics"
#: Array of the run document -> the folder whose files it lists; the others are downloadables.
_FOLDERS: Final = {
    **{kind: books.FOLDERS[kind] for kind in books.LISTED},
    GRAPHICS: "outputs/graphics/",
}


def time_text(seconds: float | None) -> str | None:
    """Return POSIX seconds as this wire has times."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def job_states(words: Sequence[str]) -> list[RunState]:
    """Return the states that jobs of these words are in."""
    wanted = {_SAME.get(word, word) for word in words}
    wrong = sorted(wanted - set(JOB_STATUS.values()))
    if wrong:
        known = ", ".join(dict.fromkeys(JOB_STATUS.values()))
        raise InvalidRequest(f"status {wrong[0]!r} is none of those of jobs: {known}")
    return [state for state, word in JOB_STATUS.items() if word in wanted]


def project_document(project: Project) -> dict[str, Any]:
    """Return a project."""
    return {
        "id": project.id,
        "_id": project.id,
        "name": project.name,
        "owner": project.created_by,
        "role": project.role,
        "createdAt": time_text(project.created_at),
    }


def simulation_document(case: SavedCase) -> dict[str, Any]:
    """Return a model as a simulation, without its status."""
    row = case.row
    return {
        "id": row.id,
        "_id": row.id,
        "name": row.name,
        "description": case.document.description or "",
        "project": row.project_id or NO_PROJECT,
        "owner": row.created_by,
        "version": row.version,
        "revision": case.revision,
        "tree": dict(case.parameters),
        "inputs": run_inputs(case.parameters),
        "meshes": [],
        "files": list(case.files),
        "createdAt": time_text(case.created),
        "updatedAt": time_text(row.created),
    }


def simulation_of_run(run: RunRecord) -> dict[str, Any]:
    """Return what a run was made of as a simulation."""
    return {
        "id": run.id,
        "_id": run.id,
        "name": run.name,
        "description": run.description or "",
        "project": run.project_id or NO_PROJECT,
        "owner": run.created_by,
        "model": run.model_id,
        "version": run.model_version,
        "tree": dict(run.parameters),
        "inputs": run_inputs(run.parameters),
        "meshes": [item["path"] for item in run.inputs if item["path"].startswith("raw/")],
        "files": [],
        "status": STATUS_OF[run.status],
        "run": run.id,
        "createdAt": time_text(run.created_at),
        "updatedAt": time_text(run.updated_at),
    }


def run_document(run: RunSummary) -> dict[str, Any]:
    """Return a run without its heavy parts."""
    aborted = ABORTED_LABEL if run.status is RunState.CANCELLED else None
    return {
        "id": run.id,
        "_id": run.id,
        "number": run.number,
        "name": run.name,
        "status": STATUS_OF[run.status],
        "progress": run.progress_percent,
        "statusLabel": aborted or run.label or run.error_message or "",
        "simulation": run.model_id,
        "version": run.model_version,
        "project": run.project_id or NO_PROJECT,
        "owner": run.created_by,
        "runner": run.agent,
        "abort": run.cancel_requested,
        "createdAt": time_text(run.created_at),
        "updatedAt": time_text(run.updated_at),
        "startedAt": time_text(run.started_at),
        "finishedAt": time_text(run.completed_at),
    }


def job_document(run: RunSummary, reason: str | None = None) -> dict[str, Any]:
    """Return a run as a job; it has its resource once an agent has been given it."""
    made = {"id": run.id, "name": run.name, "kind": RUN}
    return {
        **run_document(run),
        "kind": RUN,
        "status": JOB_STATUS[run.status],
        "resource": made if run.attempt else {},
        "tags": list(run.tags),
        **({} if reason is None else {"reason": reason}),
    }


def runner_document(agent: AgentInfo) -> dict[str, Any]:
    """Return an agent as a runner."""
    return {
        "id": agent.name,
        "_id": agent.name,
        "name": agent.name,
        "scope": "shared",
        "status": agent.state,
        "statusLabel": agent.reason or "",
        "tags": list(agent.labels),
        "host": dict(agent.host),
        "specs": dict(agent.resources),
        "free": agent.free,
        "slots": agent.slots,
        "activeJobs": agent.active,
        "members": [],
        "createdAt": time_text(agent.first_seen),
        "updatedAt": time_text(agent.last_seen),
        "lastSeen": time_text(agent.last_seen),
    }


def with_files(
    kept: Mapping[str, Any], files: Iterable[StoredFile], named: Iterable[str]
) -> dict[str, list[Any]]:
    """
    Return the arrays of a run document: what its runner listed, and the files that lie there.

    Parameters
    ----------
    named
        Artifacts that the runner's own entries already mean.
    """
    arrays = {kind: list(kept.get(kind) or []) for kind in (*_FOLDERS, books.RESULT)}
    known = {*named, books.PATH}
    for file in files:
        if file.path in known:
            continue
        kind, name = _kind_of(file.path)
        entry = {"name": name, "file": file.path, "size": file.size}
        if kind == "media":
            entry["type"] = PurePosixPath(name).suffix.removeprefix(".")
        arrays[kind].append(entry)
    return arrays


def _kind_of(path: str) -> tuple[str, str]:
    for kind, folder in _FOLDERS.items():
        if path.startswith(folder):
            return kind, path.removeprefix(folder)
    return books.RESULT, path.removeprefix(books.FOLDERS[books.RESULT])
