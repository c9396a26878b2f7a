"""The queue: what waits, for what, and what runs."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.documents import AGENT, RUN_ID
from physicsrunner.service.access import Identity
from physicsrunner.service.queue import QueueStatus
from physicsrunner.wire import rest

router = APIRouter(tags=["queue"])

Reader = Annotated[Identity, Allowed("queue:read")]

_EXAMPLE = {
    "counts": {"queued": 1, "running": 3, "completed": 40},
    "waiting": 1,
    "max_concurrent_runs": None,
    "oldest_waiting_s": 12.5,
    "next": [
        {
            "id": RUN_ID,
            "number": 17,
            "name": "cavity at Re 100",
            "priority": 1,
            "project_id": None,
            "created_at": 1767225600.0,
            "waits_s": 12.5,
            "reason": "waiting: no agent offers 2 GPUs; the largest offers 0",
        }
    ],
    "agents": [AGENT],
}


@router.get(
    rest.QUEUE,
    summary="How the queue stands",
    responses=gives(QueueStatus, _EXAMPLE),
)
async def status(_request: Request, who: Reader, parts: Shared) -> Response:
    """
    Show how many runs are in which state, which are next and what they wait for, and the agents.

    Runs that the caller may not read are counted and not named.
    """
    return answer(await to_thread.run_sync(parts.services.queue.status, who))
