"""
Runs as jobs: the items of lists, the status, and the words for where a job stands.

Promises: keys come in the order of the document; times are UTC without a zone, with microseconds;
progress goes from 0 to 1. A run that came by another door, or by none, is a job too: what it has
no word for is null. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.server.doors.words import word

DOOR: Final = "ath"
COMPLETE, ERROR, CANCELLED, QUEUED = "complete", "error", "cancelled", "queued"
RUNNING: Final = "running"
TERMINAL: Final = frozenset({COMPLETE, ERROR, CANCELLED})
#: What lists show of a job's configuration.
SUMMARY: Final = ("formula_type", "frequency_range", "num_frequencies", "sim_type")

#: What the document says of a job whose program went while nobody was there.
LOST: Final = "Server restarted during execution"
_LOST_CODES: Final = frozenset({"lost_contact", "program_lost"})
_STOPPED: Final = "Cancelled by user"
_MESSAGES: Final = {
    QUEUED: "Job queued",
    COMPLETE: "Simulation complete",
    ERROR: "Simulation failed",
    CANCELLED: "Simulation cancelled",
}


def described(fields: Mapping[str, Any]) -> str:
    """
    Return what lists show of a request, to be kept where they find it: as its description.

    People read it, too, where lists of other doors show it: a line for each field.
    """
    shown = {name: fields[name] for name in SUMMARY}
    if fields.get("label") is not None:
        shown["label"] = fields["label"]
    return _lines(shown)


def relabelled(run: RunSummary, label: str | None) -> str:
    """Return the description of *run* with another label."""
    kept = {name: value for name, value in _shown(run).items() if name != "label"}
    return _lines(kept if label is None else {**kept, "label": label})


def item(run: RunSummary, *, results: bool, mesh: bool) -> dict[str, Any]:
    """Return *run* as an item of a list, with what files it has."""
    status, shown = word(DOOR, run), _shown(run)
    stage, said = _stage(run, status)
    queued = _time(run.created_at)
    return {
        "id": run.id,
        "status": status,
        "progress": _progress(run, status),
        "stage": stage,
        "stage_message": said,
        "created_at": queued,
        "queued_at": queued,
        "started_at": _time(run.started_at),
        "completed_at": _time(run.completed_at),
        "config_summary": {name: shown.get(name) for name in SUMMARY},
        "has_results": results and status == COMPLETE,
        "has_mesh_artifact": mesh,
        "label": shown.get("label"),
        "error_message": _error(run, status),
    }


def status(run: RunSummary) -> dict[str, Any]:
    """Return where *run* stands."""
    state = word(DOOR, run)
    stage, said = _stage(run, state)
    return {
        "status": state,
        "progress": _progress(run, state),
        "stage": stage,
        "stage_message": said,
        "message": _error(run, state),
    }


def config(run: RunRecord) -> dict[str, Any]:
    """Return what was sent for *run*, in its order; the mesh is null in its place."""
    ours = run.configuration.get(DOOR)
    names = ours.get("fields") if isinstance(ours, Mapping) else None
    if not isinstance(names, list):
        return dict(run.parameters)
    return {name: run.parameters.get(name) for name in names}


def _shown(run: RunSummary) -> Mapping[str, Any]:
    """Return what `described` kept; of a run that did not come by this door, what there is."""
    if run.door != DOOR:
        given = run.parameters if isinstance(run, RunRecord) else {}
        return {**{name: given.get(name) for name in SUMMARY}, "label": run.name}
    lines = [line.partition(": ") for line in (run.description or "").split("\n")]
    try:
        return {name: json.loads(value) for name, _, value in lines if value}
    except ValueError:  # somebody wrote another one
        return {}


def _lines(shown: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in shown.items()
    )


def _progress(run: RunSummary, state: str) -> float:
    if state == CANCELLED:
        return 0.0
    return 1.0 if state == COMPLETE else round(run.progress_percent / 100, 6)


def _stage(run: RunSummary, state: str) -> tuple[str | None, str | None]:
    """Return what a job does, as a word and in words."""
    if state == RUNNING:
        return run.stage, run.label
    said = _MESSAGES[state]
    if state == ERROR and run.error_message:
        said = f"{said}: {run.error_message}"
    elif state == CANCELLED and run.status is not RunState.CANCELLED and not run.completed_at:
        said = f"{said}; its program is being stopped"
    return state, said


def _error(run: RunSummary, state: str) -> str | None:
    if state == CANCELLED:
        return _STOPPED
    if state != ERROR:
        return None
    return LOST if run.error_code in _LOST_CODES else run.error_message


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    found = datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
    return found.isoformat(timespec="microseconds")
