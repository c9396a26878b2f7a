"""Webhooks: where events are sent, and what was not taken there."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.errors import NotTaken
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, json_of
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Parts, Shared
from physicsrunner.server.webhooks import send
from physicsrunner.service.access import Identity
from physicsrunner.service.outbox import shown
from physicsrunner.store.outbox import WebhookRow
from physicsrunner.wire import rest, webhooks
from physicsrunner.wire.live import Event

router = APIRouter(tags=["events"])

Reader = Annotated[Identity, Allowed("webhooks:read")]
Maker = Annotated[Identity, Allowed("webhooks:create")]
Changer = Annotated[Identity, Allowed("webhooks:update")]
Remover = Annotated[Identity, Allowed("webhooks:delete")]
_ONE: Final = f"{rest.WEBHOOKS}/{{webhook}}"
_ASKED: Final = {"url": "https://example.org/hook", "types": ["simulation/*"], "project_id": None}
_SHOWN: Final = {
    "id": "7f8f6f0a-6f0a-4c39-a4f6-1a2f5a3c1d77",
    "url": "https://example.org/hook",
    "types": ["simulation/*"],
    "project_id": None,
    "created_by": "admin",
    "created_at": 1767225600.0,
    "active": True,
    "cursor": 42,
    "failures": 0,
    "next_try_at": None,
    "last_error": None,
}
_BODY: Final = {
    "url": str,
    "types": list[str],
    "project_id": str,
    "secret": str,
    "active": bool,
    "id": str,
}
_ROW: Final = {
    "id": str,
    "url": str,
    "types": list[str],
    "project_id": str,
    "created_by": str,
    "created_at": float,
    "active": bool,
    "cursor": int,
    "failures": int,
    "next_try_at": float,
    "last_error": str,
}
_OUTCOME: Final = {"taken": bool, "status": int, "error": str, "seconds": float}
_TAKEN: Final = {"taken": True, "status": 200, "error": None, "seconds": 0.04}


@router.post(
    rest.WEBHOOKS,
    status_code=201,
    summary="Have events sent somewhere",
    openapi_extra=takes(_BODY, _ASKED),
    responses=gives({**_ROW, "secret": str}, {**_SHOWN, "secret": "shown once"}, status=201),
)
async def add(request: Request, who: Maker, parts: Shared) -> Response:
    """
    Make a webhook, of a project or of the whole server; it is told what happens from now on.

    ``types`` are patterns, none: all. With ``id``, a UUID of the caller's, a repeat is harmless.
    The answer holds the secret that signs the requests, once.
    """
    asked = await json_of(request)
    row, secret = await to_thread.run_sync(parts.services.outbox.add, who, asked)
    return answer({**shown(row), "secret": secret}, 201)


@router.get(
    rest.WEBHOOKS, summary="List webhooks", responses=gives({"data": list[Any]}, {"data": [_SHOWN]})
)
async def all_webhooks(who: Reader, parts: Shared) -> Response:
    """List the webhooks that the caller may see, the oldest first."""
    rows = await to_thread.run_sync(parts.services.outbox.webhooks, who)
    return answer({"data": [shown(row) for row in rows]})


@router.get(_ONE, summary="Show a webhook", responses=gives(_ROW, _SHOWN))
async def one(webhook: str, who: Reader, parts: Shared) -> Response:
    """Show a webhook and how far it is: ``cursor`` is the last event that it has."""
    return answer(shown(await to_thread.run_sync(parts.services.outbox.get, who, webhook)))


@router.patch(
    _ONE,
    summary="Change a webhook",
    openapi_extra=takes(_BODY, {"active": True}),
    responses=gives(_ROW, _SHOWN),
)
async def change(request: Request, webhook: str, who: Changer, parts: Shared) -> Response:
    """Change url, types, secret or active; what waits is tried at once."""
    asked = await json_of(request)
    row = await to_thread.run_sync(parts.services.outbox.change, who, webhook, asked)
    return answer(shown(row))


@router.delete(_ONE, summary="Remove a webhook", responses=gives({"id": str}, {"id": _SHOWN["id"]}))
async def remove(webhook: str, who: Remover, parts: Shared) -> Response:
    """Remove a webhook and its dead letters."""
    await to_thread.run_sync(parts.services.outbox.remove, who, webhook)
    return answer({"id": webhook})


@router.post(f"{_ONE}/test", summary="Try a webhook", responses=gives(_OUTCOME, _TAKEN))
async def test(webhook: str, who: Changer, parts: Shared) -> Response:
    """Send an event of type ``webhook/test`` now, and say what became of it."""
    outbox = parts.services.outbox
    row = await to_thread.run_sync(outbox.get, who, webhook, "webhooks:update")
    event = Event(webhooks.TEST, None, None, row.project_id, time.time(), {"webhook": row.id})
    return answer(await _sent(parts, row, event))


@router.get(
    f"{_ONE}/dead",
    summary="What a webhook did not take",
    responses=gives(
        {"data": list[Any]},
        {"data": [{"id": 1, "event": 42, "tries": 12, "error": "answered 500", "time": 1.0}]},
    ),
)
async def dead(
    webhook: str,
    who: Reader,
    parts: Shared,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List the dead letters behind the id ``after``, the oldest first; ``type``: of the event."""
    found = await to_thread.run_sync(parts.services.outbox.dead_letters, who, webhook, after, limit)
    return answer(
        {
            "data": [
                {
                    "id": letter.id,
                    "event": letter.event_id,
                    "type": event.type if event is not None else None,
                    "run": event.run if event is not None else None,
                    "tries": letter.tries,
                    "error": letter.error,
                    "time": letter.time,
                }
                for letter, event in found
            ]
        }
    )


@router.post(
    f"{_ONE}/dead/{{letter}}/send",
    summary="Send a dead letter again",
    responses=gives(_OUTCOME, _TAKEN),
)
async def send_again(webhook: str, letter: int, who: Changer, parts: Shared) -> Response:
    """Send it now, out of its order; what is taken is no longer a dead letter."""
    outbox = parts.services.outbox
    row, found, event = await to_thread.run_sync(outbox.dead_letter, who, webhook, letter)
    outcome = await _sent(parts, row, event)
    await to_thread.run_sync(outbox.sent_again, found, outcome["error"])
    return answer(outcome)


async def _sent(parts: Parts, row: WebhookRow, event: Event) -> dict[str, Any]:
    outbox = parts.services.outbox
    secret = await to_thread.run_sync(outbox.secret, row)
    began = time.monotonic()
    try:
        status: int | None = await send(row, secret, event, private=outbox.private)
        error = None
    except NotTaken as refused:
        status, error = None, str(refused)
    seconds = round(time.monotonic() - began, 3)
    return {"taken": error is None, "status": status, "error": error, "seconds": seconds}
