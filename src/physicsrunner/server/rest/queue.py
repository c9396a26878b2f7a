"""The queue: what waits, for what, and what runs."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest

router = APIRouter(tags=["queue"])

Reader = Annotated[Identity, Allowed("queue:read")]


@router.get(
    rest.QUEUE,
    summary="How the queue stands",
    responses=gives({"counts": {"queued": int, "running": int}}, {"counts": {"queued": 3}}),
)
async def status(who: Reader, parts: Shared) -> Response:
    """Show how many runs are in which state, which ones wait longest and why, and the agents."""
    return answer(await to_thread.run_sync(parts.services.queue.status, who))
