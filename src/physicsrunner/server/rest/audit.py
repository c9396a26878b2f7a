"""The audit: every change with who, what, from where and when."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.service.audit import PAGE, entry
from physicsrunner.wire import rest
from physicsrunner.wire.live import Event

router = APIRouter(tags=["access"])

Auditor = Annotated[Identity, Allowed("audit:read")]

_COLUMNS: Final = ("id", "time", "type", "actor", "origin", "project", "run", "attempt", "data")
_EXAMPLE = {
    "id": 42,
    "type": "token/revoked",
    "run": None,
    "attempt": None,
    "project": None,
    "time": 1767225601.5,
    "data": {"token": "6f1c0d5e0a7b4d0e9a533a1f5b0c2d11", "subject": "ada"},
    "actor": "admin",
    "origin": "192.0.2.7",
}


@router.get(
    rest.AUDIT,
    summary="Read the audit",
    responses=gives({"data": list[object]}, {"data": [_EXAMPLE]}),
)
async def audit(
    who: Auditor,
    parts: Shared,
    after: Annotated[int, Query(ge=0)] = 0,
    actor: Annotated[str | None, Query(description="A person, or agent:NAME")] = None,
    kind: Annotated[
        str | None, Query(alias="type", description="Such as token/revoked, or token/*")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 500,
    form: Annotated[Literal["json", "jsonl", "csv"], Query(alias="format")] = "json",
) -> Response:
    """
    List the entries behind the id ``after``, in the order of the log.

    With ``format=jsonl`` or ``csv`` all of them come, whatever ``limit`` says: an export.
    """
    found = parts.services.audit
    if form == "json":
        rows = await to_thread.run_sync(
            lambda: found.entries(who, after=after, actor=actor, kind=kind, limit=limit)
        )
        return answer({"data": [entry(row) for row in rows]})
    pages = found.all(who, after=after, actor=actor, kind=kind)
    write, media = (_jsonl, "application/x-ndjson") if form == "jsonl" else (_csv, "text/csv")
    headers = {"Content-Disposition": f'attachment; filename="audit.{form}"'}
    return StreamingResponse(write(pages), media_type=media, headers=headers)


def _jsonl(pages: Iterator[list[Event]]) -> Iterator[str]:
    for page in pages:
        yield "".join(json.dumps(entry(event)) + "\n" for event in page)


def _csv(pages: Iterator[list[Event]]) -> Iterator[str]:
    yield _lines([_COLUMNS])
    for page in pages:
        yield _lines([[_cell(entry(event)[name]) for name in _COLUMNS] for event in page])


def _lines(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    # A spreadsheet would carry out what begins like a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text
