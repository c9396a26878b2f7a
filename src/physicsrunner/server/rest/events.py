"""The log as people read it: pages of it, waiting for what comes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Query, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Parts, Shared
from physicsrunner.service.access import Identity
from physicsrunner.service.events import MAX_PAGE
from physicsrunner.store.outbox import EventFilter, Page
from physicsrunner.wire import rest
from physicsrunner.wire.live import Event, type_matches

router = APIRouter(tags=["events"])

Reader = Annotated[Identity, Allowed("events:read")]
MAX_WAIT_S: Final = 30.0
_TOGETHER_S: Final = 0.05  # events that come within it are one answer
_EVENT: Final = {
    "id": 42,
    "type": "simulation/started",
    "run": "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77",
    "attempt": 1,
    "project": None,
    "time": 1767225601.5,
    "data": {},
}


@router.get(
    rest.EVENTS,
    summary="Logged events",
    responses=gives(
        {"data": list[Event], "next": int, "newest": int},
        {"data": [_EVENT], "next": 42, "newest": 42},
    ),
)
async def events(
    who: Reader,
    parts: Shared,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Behind this id")] = 0,
    run: Annotated[str | None, Query(description="Of one run: its id or number")] = None,
    project: Annotated[str | None, Query(description="Of one project")] = None,
    types: Annotated[
        list[str] | None, Query(description="Patterns such as simulation/*, by commas or repeated")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 500,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait where there is none")
    ] = 0.0,
) -> Response:
    """
    List the events behind the id ``after`` that the caller may read, in the order of the log.

    ``next`` is the ``after`` of the next question: it may lie behind the last event where the ones
    after it are not wanted, and the page may be empty where there are more to look at, as long as
    ``next`` is below ``newest``, the id of the last event of all.
    """
    patterns = [word.strip() for text in types or () for word in text.split(",") if word.strip()]
    wanted = EventFilter(after=after, run=run, project=project, types=patterns, limit=limit)
    page = await _page(parts, who, wanted, wait)
    newest = await to_thread.run_sync(parts.services.events.newest)
    data = [event.envelope() for event in page.events]
    return answer({"data": data, "next": page.upto, "newest": newest})


async def _page(parts: Parts, who: Identity, wanted: EventFilter, wait: float) -> Page:
    """Return the next page; with *wait*, wait so many seconds until there is something on it."""
    until = time.monotonic() + wait

    def concerns(event: Event) -> bool:
        return type_matches(wanted.types, event.type) and wanted.project in (None, event.project)

    with parts.hub.watch_log(concerns) as changed:
        while True:
            changed.clear()
            page = await to_thread.run_sync(parts.services.events.find, who, wanted)
            left = until - time.monotonic()
            if page.events or left <= 0 or parts.hub.closed:
                return page
            if page.upto > wanted.after:
                wanted = replace(wanted, after=page.upto)
                continue  # there may be more to look at
            try:
                await asyncio.wait_for(changed.wait(), left)
            except asyncio.TimeoutError:
                return page
            # Many who wait must not all ask for each of many events.
            await asyncio.sleep(_TOGETHER_S)
            # What has come is for who they are now: the token may have been revoked meanwhile.
            who = await to_thread.run_sync(parts.services.access.present, who)
