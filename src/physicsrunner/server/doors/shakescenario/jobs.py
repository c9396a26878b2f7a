"""
Runs in the words of the ShakeScenario document: jobs, and the two documents of each.

Pure. A job's ``id`` is the run's number, which stays as it is for ever. Times are UTC, ISO 8601.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import TERMINAL
from physicsrunner.server.doors.words import word
from physicsrunner.wire.messages import StoredFile

DOOR: Final = "shakescenario"
META: Final = "meta.json"
MANIFEST: Final = "result_manifest.json"


def folder_of(number: int) -> str:
    """Return the name of a job's folder."""
    return f"job_{number:06d}"


def short(run: RunSummary) -> dict[str, Any]:
    """Return a job as lists show it."""
    return {
        "id": run.number,
        "status": word(DOOR, run),
        "name": run.name,
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.completed_at),
        "error": _error(run),
    }


def whole(run: RunRecord, files: Iterable[StoredFile]) -> dict[str, Any]:
    """Return a job with its parameters, its result and its artifacts."""
    ended = run.status in TERMINAL
    return {
        **short(run),
        "params": run.parameters,
        "result": _result(run) if ended else None,
        "artifacts": [_artifact(file) for file in files],
    }


def meta(job: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Return what stands in a job's ``meta.json``; *run* is its id elsewhere on this server."""
    return {**{key: value for key, value in job.items() if key != "artifacts"}, "run": run}


def manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in a job's ``result_manifest.json``."""
    return {key: job[key] for key in ("id", "status", "error", "result", "artifacts")}


def _artifact(file: StoredFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def _result(run: RunRecord) -> dict[str, Any]:
    """Return what is known of the end of *run*: its named values, and how it ended."""
    return {
        "values": {str(item.get("name")): item.get("value") for item in run.results},
        "units": {str(item.get("name")): item["unit"] for item in run.results if item.get("unit")},
        "exit_code": run.exit_code,
        "duration_s": run.duration_seconds,
    }


def _error(run: RunSummary) -> str | None:
    if run.status not in TERMINAL:
        return None  # what an earlier try ended by
    return run.error_message or run.error_code


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    found = datetime.fromtimestamp(seconds, timezone.utc)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
