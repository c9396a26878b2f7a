"""
Runs and events in the words of the architech door.

Promises: a `SimulationRun` has exactly the fields of its document, section 3.6; what more there is
to say stands in the status. Times are ISO 8601 in UTC with milliseconds. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.server.doors import words
from physicsrunner.service.design_runs import DOOR, design_of, user_of
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

#: What an event is called here; all others are ``event``.
_TYPES: Final[Mapping[str, str]] = {
    live.PROGRESS: "progress",
    live.LOG: "log",
    live.SERIES: "metrics",
    **dict.fromkeys(
        (
            live.QUEUED,
            live.PREPARING,
            live.STARTED,
            live.PAUSED,
            live.RESUMED,
            live.RETRIED,
            live.COMPLETED,
            live.FAILED,
            live.TIMED_OUT,
            live.CANCELLED,
        ),
        "status",
    ),
}
_STATES: Final = {state.value: word for state, word in words.WORDS[DOOR].items()}


def simulation_run(run: RunSummary) -> dict[str, Any]:
    """Return the ``SimulationRun`` of the document."""
    return {
        "id": run.id,
        "design_id": design_of(run),
        "user_id": user_of(run),
        "status": words.word(DOOR, run),
        "start_time": iso(run.created_at),
        "end_time": iso(run.completed_at),
    }


def status(run: RunSummary, reason: str) -> dict[str, Any]:
    """Return where a run stands: its ``SimulationRun``, and what the states here do not tell."""
    return {
        **simulation_run(run),
        "state": run.status.value,
        "progress": run.progress_percent,
        "phase": run.label or run.stage,
        "message": reason,
        "error": run.error_message,
        "eta_seconds": run.eta_seconds,
        "stop_requested": run.cancel_requested,
        "pause_requested": run.pause_requested or run.held,
        "project_id": run.project_id,
    }


def told(event: Event) -> dict[str, Any]:
    """Return an event of a run as this door's clients hear it."""
    said = dict(event.data)
    said.pop("simulation_id", None)
    state = said.pop("status", None)
    return {
        "type": _TYPES.get(event.type, "event"),
        "simulation_id": event.run,
        "status": _STATES.get(state) if isinstance(state, str) else None,
        "event": event.type,
        "event_id": event.id,
        "time": iso(event.time),
        "data": {"state": state, **said} if state in _STATES else said,
    }


def is_stopped(run: RunSummary) -> bool:
    """Say whether *run*, which was asked to stop, has or will: false if it had ended before."""
    return run.status is RunState.CANCELLED or run.completed_at is None


def iso(time: float | None) -> str | None:
    """Return POSIX seconds as ``2026-11-22T16:00:00.125+00:00``."""
    if time is None:
        return None
    return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="milliseconds")
