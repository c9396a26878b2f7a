"""
The events of a run: what each says. The shapes are those of the seed's payload examples (5.2).

Pure. Every event of a run that is written or published is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.wire import live
from physicsrunner.wire.live import Event, new_event

_BY_STATE = {
    RunState.COMPLETED: live.COMPLETED,
    RunState.FAILED: live.FAILED,
    RunState.CANCELLED: live.CANCELLED,
    RunState.TIMEOUT: live.TIMED_OUT,
    RunState.PAUSED: live.PAUSED,
    RunState.RETRYING: live.RETRIED,
}


def event(run: RunSummary, kind: str, now: float, /, **data: Any) -> Event:
    """Return an event of *run*; values that are None are left out."""
    said: dict[str, Any] = {"simulation_id": run.id}
    if run.number:
        said["number"] = run.number
    said["status"] = run.status.value
    said.update({name: value for name, value in data.items() if value is not None})
    return new_event(kind, run.id, run.attempt or None, run.project_id, now, said)


def requested(run: RunSummary, now: float) -> Event:
    """Return: somebody asked for the run."""
    return event(
        run,
        live.REQUESTED,
        now,
        name=run.name,
        model_id=run.model_id,
        model_version=run.model_version,
        requested_by=run.created_by,
        project_id=run.project_id,
        retry_of=run.retry_of,
    )


def queued(run: RunSummary, now: float) -> Event:
    """Return: the run waits for an agent."""
    return event(run, live.QUEUED, now, priority=run.priority)


def allocated(run: RunSummary, now: float) -> Event:
    """Return: an agent was given the attempt."""
    return event(
        run,
        live.PREPARING,
        now,
        agent=run.agent,
        attempt=run.attempt,
        resource_allocation=resources(run),
    )


def moved(run: RunSummary, before: RunState, now: float, outcome: Mapping[str, Any]) -> Event:
    """Return: the run is now in the state that *run* has. *outcome* is said of an end."""
    if run.status is RunState.RUNNING:
        if before is RunState.PAUSED:
            return event(run, live.RESUMED, now)
        return _started(run, now)
    kind = _BY_STATE[run.status]
    return event(
        run,
        kind,
        now,
        exit_code=run.exit_code,
        error_code=run.error_code,
        error_message=run.error_message,
        duration_seconds=run.duration_seconds,
        **outcome,
    )


def freed(run: RunSummary, agent: str | None, now: float) -> Event:
    """Return: what the attempt took of its agent is free again."""
    return event(
        run, live.FREED, now, agent=agent, attempt=run.attempt, resource_allocation=resources(run)
    )


def silent(run: RunSummary, now: float) -> Event:
    """Return: main.py has written nothing for as long as the run allows."""
    return event(
        run,
        live.SILENT,
        now,
        agent=run.agent,
        silence_limit_seconds=run.silence_limit_s,
        stopped=run.stop_when_silent,
    )


def _started(run: RunSummary, now: float) -> Event:
    minutes = None if run.time_limit_s is None else run.time_limit_s / 60
    return event(
        run,
        live.STARTED,
        now,
        model_id=run.model_id,
        model_version=run.model_version,
        started_by=run.created_by,
        agent=run.agent,
        estimated_duration_minutes=minutes,
        resource_allocation=resources(run),
        project_id=run.project_id,
    )


def progress(run: RunSummary, now: float) -> Event:
    """Return: how far the run is. Live only."""
    eta = run.eta_seconds
    done = None if eta is None else datetime.fromtimestamp(now + eta, timezone.utc).isoformat()
    return event(
        run,
        live.PROGRESS,
        now,
        progress_percent=run.progress_percent,
        current_phase=run.label or run.stage or run.status.value,
        stage=run.stage,
        label=run.label,
        eta_seconds=eta,
        estimated_completion=done,
    )


def resources(run: RunSummary) -> dict[str, Any]:
    """Return what the run needs, as the REST API says it."""
    return {
        "cpu_cores": run.cpu_cores,
        "memory_gb": run.memory_gb,
        "gpu_count": run.gpu_count,
        "storage_gb": run.storage_gb,
    }


def of_agent(agent: str, kind: str, now: float, /, **data: Any) -> Event:
    """Return an event of an agent; values that are None are left out."""
    said = {name: value for name, value in data.items() if value is not None}
    return Event(kind, None, None, None, now, {"agent": agent, **said})
