"""Runs (on these paths: simulations): create, list, show, cancel, results, events."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.core.run import NewRun, RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, NotFound
from physicsrunner.server.auth import Caller
from physicsrunner.server.bodies import answer, json_of
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire import codec, rest
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import Result

router = APIRouter(tags=["simulations"])

_RUN = f"{rest.SIMULATIONS}/{{run}}"
_REQUEST = {
    "model_id": "5c1f2e0a-7f0e-4a4e-9a53-3a1f5b0c2d11",
    "name": "cavity at Re 100",
    "parameters": {"inputs": {"reynolds": 100}},
    "configuration": {"timeout_minutes": 60},
    "tags": ["demo"],
}
_SUMMARY = {
    "id": "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77",
    "number": 17,
    "name": "cavity at Re 100",
    "created_by": "admin",
    "created_at": 1767225600.0,
    "updated_at": 1767225630.0,
    "status": "running",
    "stage": "execute",
    "label": "iteration 1200",
    "progress_percent": 42.0,
    "attempt": 1,
    "agent": "node-7",
}
_STATUS = (
    "id",
    "number",
    "status",
    "stage",
    "label",
    "progress_percent",
    "eta_seconds",
    "attempt",
    "agent",
    "exit_code",
    "error_code",
    "error_message",
    "cancel_requested",
    "unreachable",
    "updated_at",
)
_PROGRESS = ("id", "status", "stage", "label", "progress_percent", "eta_seconds", "updated_at")
_EVENT = {
    "id": 42,
    "type": "simulation/started",
    "run": _SUMMARY["id"],
    "attempt": 1,
    "project": None,
    "time": 1767225601.5,
    "data": {},
}


def document(run: RunSummary) -> dict[str, Any]:
    """Return *run* as it stands on the wire; fields that are not known are left out."""
    found: dict[str, Any] = codec.encode(run)
    if run.duration_seconds is not None:
        found["duration_seconds"] = run.duration_seconds
    return found


def _some(run: RunRecord, names: tuple[str, ...]) -> dict[str, Any]:
    found = document(run)
    return {name: found[name] for name in names if name in found}


@router.post(
    rest.SIMULATIONS,
    status_code=201,
    summary="Create a run",
    openapi_extra=takes(NewRun, _REQUEST),
    responses=gives(RunRecord, {**_SUMMARY, "status": "queued"}, status=201),
)
async def create(request: Request, who: Caller, parts: Shared) -> Response:
    """
    Queue a run. ``id`` (a UUIDv4 of the caller's) makes a repeat harmless: it answers 200.

    With ``claim: {agent}`` the caller carries it out: attempt 1 is leased to it and the answer is
    ``{run, lease}``.
    """
    body = await json_of(request)
    claim = body.pop("claim", None) if isinstance(body, dict) else None
    wanted = codec.decode(NewRun, body)
    return await to_thread.run_sync(_create, parts.services, who, wanted, claim)


def _create(services: Services, who: Identity, wanted: NewRun, claim: Any) -> Response:
    status = 200 if wanted.id is not None and _exists(services, who, wanted.id) else 201
    if claim is None:
        return answer(document(services.runs.create(who, wanted)), status)
    agent = claim.get("agent") if isinstance(claim, dict) else None
    if not isinstance(agent, str) or not agent:
        raise InvalidRequest("claim is {agent: NAME}")
    run, lease = services.runs.claim(who, wanted, agent)
    return answer({"run": document(run), "lease": lease}, status)


def _exists(services: Services, who: Identity, run: str) -> bool:
    try:
        services.runs.get(who, run)
    except NotFound:
        return False
    return True


def _states(words: list[str]) -> list[RunState]:
    names = [name for word in words for name in word.split(",") if name]
    try:
        return [RunState(name.strip().lower()) for name in names]
    except ValueError:
        allowed = ", ".join(state.value for state in RunState)
        raise InvalidRequest(f"status={','.join(words)!r}: the states are {allowed}") from None


@router.get(
    rest.SIMULATIONS,
    summary="List runs",
    responses=gives({"data": list[RunSummary], "total": int}, {"data": [_SUMMARY], "total": 1}),
)
async def list_runs(
    who: Caller,
    parts: Shared,
    status: Annotated[list[str] | None, Query(description="One or more states")] = None,
    project_id: str | None = None,
    model_id: str | None = None,
    created_by: str | None = None,
    agent: str | None = None,
    name: Annotated[str | None, Query(description="Part of the name")] = None,
    tag: str | None = None,
    limit: int = 50,
    offset: int = 0,
    sort: str = "-created_at",
) -> Response:
    """List runs, the newest first; ``total`` counts all that fit, whatever the limit."""
    wanted = RunFilter(
        status=_states(status or []),
        project_id=project_id,
        model_id=model_id,
        created_by=created_by,
        agent=agent,
        name=name,
        tag=tag,
        limit=limit,
        offset=offset,
        sort=sort,
    )
    found, total = await to_thread.run_sync(parts.services.runs.list, who, wanted)
    return answer({"data": [document(run) for run in found], "total": total})


@router.get(_RUN, summary="Show a run", responses=gives(RunRecord, _SUMMARY))
async def show(run: str, who: Caller, parts: Shared) -> Response:
    """Show a run by its id or its number."""
    return answer(document(await to_thread.run_sync(parts.services.runs.get, who, run)))


@router.get(
    f"{_RUN}/status",
    summary="Where a run stands",
    responses=gives(
        {"id": str, "status": str, "stage": str, "progress_percent": float},
        {name: _SUMMARY[name] for name in _STATUS if name in _SUMMARY},
    ),
)
async def status(run: str, who: Caller, parts: Shared) -> Response:
    """Show state, stage, progress, agent and error, without the heavy parts."""
    found = await to_thread.run_sync(parts.services.runs.get, who, run)
    return answer(_some(found, _STATUS))


@router.get(
    f"{_RUN}/progress",
    summary="How far a run is",
    responses=gives(
        {"progress_percent": float, "stage": str, "label": str, "eta_seconds": float},
        {name: _SUMMARY[name] for name in _PROGRESS if name in _SUMMARY},
    ),
)
async def progress(run: str, who: Caller, parts: Shared) -> Response:
    """Show percent of the whole run, what it does now, and the seconds left where known."""
    found = await to_thread.run_sync(parts.services.runs.get, who, run)
    return answer(_some(found, _PROGRESS))


@router.post(
    f"{_RUN}/cancel",
    summary="Ask a run to stop",
    responses=gives(
        {"id": str, "status": str, "cancel_requested": bool},
        {"id": _SUMMARY["id"], "status": "running", "cancel_requested": True},
    ),
)
async def cancel(run: str, who: Caller, parts: Shared) -> Response:
    """Request the end; ``status`` says cancelled only when the program has stopped."""
    found = await to_thread.run_sync(parts.services.runs.cancel, who, run)
    return answer(
        {"id": found.id, "status": found.status, "cancel_requested": found.cancel_requested}
    )


@router.get(
    f"{_RUN}/results",
    summary="Results of a run",
    responses=gives(
        {"data": list[Result]},
        {"data": [{"name": "t_max", "value": 273.15, "type": "scalar", "unit": "K"}]},
    ),
)
async def results(run: str, who: Caller, parts: Shared) -> Response:
    """List the named values that main.py left, with their types and units."""
    return answer({"data": await to_thread.run_sync(parts.services.runs.results, who, run)})


@router.get(
    f"{_RUN}/events",
    summary="Logged events of a run",
    responses=gives({"data": list[Event]}, {"data": [_EVENT]}),
)
async def events_of_run(
    run: str,
    who: Caller,
    parts: Shared,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """List the events behind the id ``after``, in the order of the log."""

    def find() -> list[Event]:
        found = parts.services.runs.get(who, run)  # by number, too
        return parts.services.runs.events(who, found.id, after, limit)

    return answer({"data": [event.envelope() for event in await to_thread.run_sync(find)]})


@router.get(
    rest.EVENTS,
    summary="Logged events of all runs",
    responses=gives({"data": list[Event]}, {"data": [_EVENT]}),
)
async def events(
    who: Caller,
    parts: Shared,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """List the events behind the id ``after``, in the order of the log."""
    found = await to_thread.run_sync(parts.services.runs.events, who, None, after, limit)
    return answer({"data": [event.envelope() for event in found]})
