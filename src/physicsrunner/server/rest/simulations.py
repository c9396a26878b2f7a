"""Runs (on these paths: simulations): create, list, show, results, attempts, events."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.core.run import NewRun, RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, NotFound
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, json_of, plain_answer
from physicsrunner.server.openapi import also, gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.documents import REQUEST, RUN, RUN_ID, SHOWN, SUMMARY, document
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire import codec, rest
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import Result

router = APIRouter(tags=["simulations"])

Creator = Annotated[Identity, Allowed("runs:create")]
Reader = Annotated[Identity, Allowed("runs:read")]
EventReader = Annotated[Identity, Allowed("events:read")]

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
    "pause_requested",
    "held",
    "silent",
    "unreachable",
    "not_before",
    "updated_at",
    "reason",
)
_PROGRESS = ("id", "status", "stage", "label", "progress_percent", "eta_seconds", "updated_at")
_EVENT = {
    "id": 42,
    "type": "simulation/started",
    "run": RUN_ID,
    "attempt": 1,
    "project": None,
    "time": 1767225601.5,
    "data": {},
}
_ATTEMPT = {
    "attempt": 1,
    "agent": "node-7",
    "state": "failed",
    "leased_at": 1767225601.0,
    "started_at": 1767225601.5,
    "ended_at": 1767225690.0,
    "exit_code": 3,
    "error_code": "program_failed",
    "error_message": "main.py ended with exit code 3",
}


@router.post(
    rest.SIMULATIONS,
    status_code=201,
    summary="Create a run",
    openapi_extra=takes(NewRun, REQUEST),
    responses=gives(RunRecord, {**SUMMARY, "status": "queued"}, status=201),
)
async def create(request: Request, who: Creator, parts: Shared) -> Response:
    """
    Queue a run. ``id`` (a UUIDv4 of the caller's) makes a repeat harmless: it answers 200.

    With ``claim: {agent}`` the caller carries it out: attempt 1 is leased to it and the answer is
    ``{run, lease}``.
    """
    body = await json_of(request)
    claim = body.pop("claim", None) if isinstance(body, dict) else None
    wanted = codec.decode(NewRun, requested(body))
    return await to_thread.run_sync(_create, parts.services, who, wanted, claim)


def requested(body: Any) -> Any:
    """Return *body* without what a client cannot say: by which door it came, what it retries."""
    if not isinstance(body, dict):
        return body
    found = {name: item for name, item in body.items() if name not in ("door", "retry_of")}
    for name in ("runs", "base_request"):
        value = found.get(name)
        if isinstance(value, list):
            found[name] = [requested(item) for item in value]
        elif isinstance(value, dict):
            found[name] = requested(value)
    return found


def _create(services: Services, who: Identity, wanted: NewRun, claim: Any) -> Response:
    status = 200 if wanted.id is not None and _exists(services, who, wanted.id) else 201
    if claim is None:
        return plain_answer(document(services.runs.create(who, wanted)), status)
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
    responses=gives(
        {"data": list[RunSummary], "total": int, "total_is_exact": bool},
        {"data": [SHOWN], "total": 1, "total_is_exact": True},
    ),
)
async def list_runs(
    who: Reader,
    parts: Shared,
    status: Annotated[list[str] | None, Query(description="One or more states")] = None,
    project_id: str | None = None,
    model_id: str | None = None,
    study_id: str | None = None,
    created_by: str | None = None,
    agent: str | None = None,
    name: Annotated[str | None, Query(description="Part of the name")] = None,
    tag: str | None = None,
    limit: int = 50,
    offset: int = 0,
    sort: str = "-created_at",
) -> Response:
    """
    List runs, the newest first, each with its ``reason`` in short; ``total`` counts all that fit.

    Where counting them would take long it is a lower bound, and ``total_is_exact`` is false.
    """
    wanted = RunFilter(
        status=_states(status or []),
        project_id=project_id,
        model_id=model_id,
        study_id=study_id,
        created_by=created_by,
        agent=agent,
        name=name,
        tag=tag,
        limit=limit,
        offset=offset,
        sort=sort,
    )

    def find() -> Response:
        runs = parts.services.runs
        page = runs.list(who, wanted)
        reasons = runs.reasons(page.runs)
        data = [document(*one) for one in zip(page.runs, reasons, strict=True)]
        return plain_answer({"data": data, "total": page.total, "total_is_exact": page.exact})

    return await to_thread.run_sync(find)


@router.get(RUN, summary="Show a run", responses=gives(also(RunRecord, reason=str), SHOWN))
async def show(run: str, who: Reader, parts: Shared) -> Response:
    """
    Show a run by its id or its number; ``reason`` says in words why it is where it is.

    Values of secret variables are shown as ``***``.
    """

    def find() -> Response:
        found = parts.services.runs.get(who, run)
        return plain_answer(document(found, parts.services.runs.reason(found)))

    return await to_thread.run_sync(find)


@router.get(
    f"{RUN}/status",
    summary="Where a run stands",
    responses=gives(
        {"id": str, "status": str, "stage": str, "progress_percent": float, "reason": str},
        {name: SHOWN[name] for name in _STATUS if name in SHOWN},
    ),
)
async def status(run: str, who: Reader, parts: Shared) -> Response:
    """Show state, stage, progress, agent, error and the reason, without the heavy parts."""

    def find() -> Response:
        found = parts.services.runs.get(who, run)
        return _some(document(found, parts.services.runs.reason(found)), _STATUS)

    return await to_thread.run_sync(find)


@router.get(
    f"{RUN}/progress",
    summary="How far a run is",
    responses=gives(
        {"progress_percent": float, "stage": str, "label": str, "eta_seconds": float},
        {name: SUMMARY[name] for name in _PROGRESS if name in SUMMARY},
    ),
)
async def progress(run: str, who: Reader, parts: Shared) -> Response:
    """Show percent of the whole run, what it does now, and the seconds left where known."""
    found = await to_thread.run_sync(parts.services.runs.get, who, run)
    return _some(document(found), _PROGRESS)


def _some(found: dict[str, Any], names: tuple[str, ...]) -> Response:
    return plain_answer({name: found[name] for name in names if name in found})


@router.get(
    f"{RUN}/results",
    summary="Results of a run",
    responses=gives(
        {"data": list[Result]},
        {"data": [{"name": "t_max", "value": 273.15, "type": "scalar", "unit": "K"}]},
    ),
)
async def results(run: str, who: Reader, parts: Shared) -> Response:
    """List the named values that main.py left, with their types and units."""
    return answer({"data": await to_thread.run_sync(parts.services.runs.results, who, run)})


@router.get(
    f"{RUN}/attempts",
    summary="The attempts of a run",
    responses=gives(
        {"data": [{"attempt": int, "agent": str, "state": str, "error_message": str}]},
        {"data": [_ATTEMPT]},
    ),
)
async def attempts(run: str, who: Reader, parts: Shared) -> Response:
    """List who tried to carry the run out, when, and how each try ended; the first one first."""

    def find() -> list[dict[str, Any]]:
        tries = parts.services.runs.attempts(who, run)
        return [
            {name: value for name, value in asdict(one).items() if value is not None}
            for one in tries
        ]

    return plain_answer({"data": await to_thread.run_sync(find)})


@router.get(
    f"{RUN}/events",
    summary="Logged events of a run",
    responses=gives({"data": list[Event]}, {"data": [_EVENT]}),
)
async def events_of_run(
    run: str,
    who: EventReader,
    parts: Shared,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """List the events behind the id ``after``, in the order of the log."""

    def find() -> list[Event]:
        found = parts.services.runs.get(who, run)  # by number, too
        return parts.services.runs.events(who, found.id, after, limit)

    return plain_answer({"data": [event.envelope() for event in await to_thread.run_sync(find)]})
