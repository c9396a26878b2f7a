"""What people ask of a run that is there: cancel, pause, resume, retry, pin, delete."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.errors import InvalidRequest
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import json_of, plain_answer
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.documents import RUN, RUN_ID, SUMMARY, document
from physicsrunner.service.access import Identity

router = APIRouter(tags=["simulations"])

Canceller = Annotated[Identity, Allowed("runs:cancel")]
Pauser = Annotated[Identity, Allowed("runs:pause")]
Resumer = Annotated[Identity, Allowed("runs:resume")]
Retrier = Annotated[Identity, Allowed("runs:retry")]
Pinner = Annotated[Identity, Allowed("runs:pin")]
Deleter = Annotated[Identity, Allowed("runs:delete")]

_SHAPE = {
    "id": str,
    "number": int,
    "status": str,
    "cancel_requested": bool,
    "pause_requested": bool,
    "held": bool,
    "pinned": bool,
    "unreachable": bool,
}
_EXAMPLE = {
    "id": RUN_ID,
    "number": 17,
    "status": "running",
    "cancel_requested": False,
    "pause_requested": False,
    "held": False,
    "pinned": False,
    "unreachable": False,
}


def _stand(run: RunSummary) -> Response:
    return plain_answer({name: getattr(run, name) for name in _SHAPE})


@router.post(
    f"{RUN}/cancel",
    summary="Ask a run to stop",
    openapi_extra=takes({"force": bool}, {"force": False}, required=False),
    responses=gives(_SHAPE, {**_EXAMPLE, "cancel_requested": True}),
)
async def cancel(
    request: Request,
    run: str,
    who: Canceller,
    parts: Shared,
    force: Annotated[bool, Query(description="Also in the body")] = False,
) -> Response:
    """
    Request the end; ``status`` says cancelled only when the program has stopped.

    With ``force`` a run whose agent cannot be reached is cancelled at once: what its agent says
    later changes nothing.
    """
    forced = force or await _forced(request)
    cancelled = await to_thread.run_sync(lambda: parts.services.runs.cancel(who, run, force=forced))
    return _stand(cancelled)


async def _forced(request: Request) -> bool:
    body: Any = await json_of(request)
    forced = body.get("force", False) if isinstance(body, dict) else None
    if not isinstance(forced, bool):
        raise InvalidRequest("the body is {force: true or false}, or empty")
    return forced


@router.post(f"{RUN}/pause", summary="Pause a run", responses=gives(_SHAPE, _EXAMPLE))
async def pause(run: str, who: Pauser, parts: Shared) -> Response:
    """
    Hold a waiting run (``held``), or stop a running program where it is (``pause_requested``).

    ``status`` says paused when the program stands still; the clock of its time limit does, too.
    """
    return _stand(await to_thread.run_sync(parts.services.runs.pause, who, run))


@router.post(f"{RUN}/resume", summary="Let a run go on", responses=gives(_SHAPE, _EXAMPLE))
async def resume(run: str, who: Resumer, parts: Shared) -> Response:
    """Let a held run be handed out again, or a paused program go on where it was."""
    return _stand(await to_thread.run_sync(parts.services.runs.resume, who, run))


@router.post(
    f"{RUN}/retry",
    status_code=201,
    summary="Run it again",
    openapi_extra=takes({"id": str}, {"id": RUN_ID}, required=False),
    responses=gives(RunRecord, {**SUMMARY, "status": "queued", "retry_of": RUN_ID}, status=201),
)
async def retry(request: Request, run: str, who: Retrier, parts: Shared) -> Response:
    """
    Queue a new run with all that an ended one was given; its ``retry_of`` names that one.

    ``id`` (a UUIDv4 of the caller's for the new run) makes a repeat harmless.
    """
    body: Any = await json_of(request)
    new_id = body.get("id") if isinstance(body, dict) else 0
    if not isinstance(new_id, (str, type(None))):
        raise InvalidRequest("the body is {id: the new run's}, or empty")
    again = await to_thread.run_sync(parts.services.runs.retry, who, run, new_id)
    return plain_answer(document(again), 201)


@router.post(
    f"{RUN}/pin", summary="Keep a run", responses=gives(_SHAPE, {**_EXAMPLE, "pinned": True})
)
async def pin(run: str, who: Pinner, parts: Shared) -> Response:
    """Keep a run and its files for ever: neither a person nor the retention deletes it."""
    return _stand(await to_thread.run_sync(parts.services.runs.pin, who, run, True))


@router.post(f"{RUN}/unpin", summary="Keep a run no longer", responses=gives(_SHAPE, _EXAMPLE))
async def unpin(run: str, who: Pinner, parts: Shared) -> Response:
    """Let a run be deleted again."""
    return _stand(await to_thread.run_sync(parts.services.runs.pin, who, run, False))


@router.delete(
    RUN,
    summary="Delete a run",
    responses=gives({"id": str, "deleted": bool}, {"id": RUN_ID, "deleted": True}),
)
async def delete(run: str, who: Deleter, parts: Shared) -> Response:
    """
    Delete a run that has ended, with its files and its events.

    One that has not ended answers 409 ``not_terminal``, a pinned one 409 ``pinned``.
    """

    def remove() -> str:
        found = parts.services.runs.get(who, run)  # by number, too
        parts.services.runs.delete(who, found.id)
        return found.id

    return plain_answer({"id": await to_thread.run_sync(remove), "deleted": True})
