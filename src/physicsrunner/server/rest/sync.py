"""The sync endpoint: one frame with operations on many files of many runs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import plain_answer
from physicsrunner.server.decoding import decoder
from physicsrunner.server.intake import Intake
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.pump import take_in
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest
from physicsrunner.wire.codec import encode
from physicsrunner.wire.messages import ReportAnswer, SyncResult

router = APIRouter(tags=["runners"])

Writer = Annotated[Identity, Allowed("files:write")]


@router.post(
    rest.SYNC,
    summary="Send a frame of file operations",
    openapi_extra=takes(bytes, media="application/octet-stream"),
    responses=gives(
        {"results": list[SyncResult], "reports": list[ReportAnswer | None]},
        {"results": [{"offset": 1024, "sealed": False}]},
    ),
)
async def sync(request: Request, who: Writer, parts: Shared) -> Response:
    """
    Take a frame: u64 big-endian length, a JSON manifest, then the operations' bytes in order.

    Answers one result for each operation, also when some fail; 4xx for a bad frame alone.
    ``reports`` in the manifest are taken after the operations, and answered where the frame had
    some: null for one whose attempt had an operation that failed.
    Content-Encoding (zstd, deflate, gzip) covers the whole body.
    """
    files = parts.services.files
    intake = Intake(
        lambda ops: files.open_frame(who, ops),
        decoder(request.headers.get("content-encoding")),
        limit=parts.limits.frame,
        report=partial(parts.services.leases.report, who),
    )
    with parts.bodies.one():
        results = await take_in(request.stream(), intake)
    parts.metrics.sync_operations.inc(len(results))
    said = {"reports": encode(intake.answers)} if intake.answers else {}
    return plain_answer({"results": [_plain(result) for result in results], **said})


def _plain(result: SyncResult) -> Any:
    """Do what `encode` does, for one of thousands in a frame."""
    if result.error is not None:
        return encode(result)
    return {"offset": result.offset, "sealed": result.sealed, "retryable": result.retryable}
