"""One attempt: what it is to do, and what of its files is stored."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.leases import GRANT_EXAMPLE
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest
from physicsrunner.wire.messages import BlockHashes, LeaseGrant, StoredFile

router = APIRouter(tags=["runners"])

Reporter = Annotated[Identity, Allowed("reports:write")]
Reader = Annotated[Identity, Allowed("files:read")]

_ATTEMPT = f"{rest.SIMULATIONS}/{{run}}/attempts/{{attempt}}"
_FILE = {"path": "logs/main.log", "size": 1024, "sealed": False}
_BLOCKS = {
    "path": "outputs/data_files/u.h5",
    "size": 1500000,
    "block_size": 1048576,
    "hashes": ["ab12" + "0" * 60, "cd34" + "0" * 60],
}


@router.get(
    _ATTEMPT, summary="What an attempt is to do", responses=gives(LeaseGrant, GRANT_EXAMPLE)
)
async def grant(run: str, attempt: int, who: Reporter, parts: Shared) -> Response:
    """Answer with the lease: bundle, inputs, parameters, limits."""
    return answer(await to_thread.run_sync(parts.services.leases.grant, who, run, attempt))


@router.get(
    f"{_ATTEMPT}/files",
    summary="Stored files with their offsets",
    responses=gives({"data": list[StoredFile]}, {"data": [_FILE]}),
)
async def files(run: str, attempt: int, who: Reader, parts: Shared) -> Response:
    """List what is stored; a sender goes on from these sizes."""
    found = await to_thread.run_sync(parts.services.files.stored, who, run, attempt)
    return answer({"data": found})


@router.get(
    f"{_ATTEMPT}/blocks",
    summary="Hashes of a stored file's blocks",
    responses=gives(BlockHashes, _BLOCKS),
)
async def blocks(
    run: str,
    attempt: int,
    who: Reader,
    parts: Shared,
    path: Annotated[str, Query()],
    block_size: Annotated[int, Query(ge=4096, le=1 << 30)] = 1 << 20,
) -> Response:
    """Answer with the SHA-256 of each block, so that only changed blocks travel."""
    hashes = parts.services.files.blocks
    return answer(await to_thread.run_sync(hashes, who, run, attempt, path, block_size))
