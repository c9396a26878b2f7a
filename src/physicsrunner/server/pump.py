"""
A body on its way from the line to an `Intake`: receiving and writing at the same time.

Pieces are collected on the event loop while a worker thread decodes and writes those before them.
At most two batches of `BATCH_MOST` bytes are in memory. When the body is cut, what arrived is
written before the intake is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import anyio
from anyio import to_thread

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.server.intake import Intake, parse_failure
from physicsrunner.wire.messages import SyncResult

BATCH: Final = 1024 * 1024  #: bytes that are worth handing to the writing thread
BATCH_MOST: Final = 2 * 1024 * 1024  #: collected while that thread is busy, then we wait for it


async def take_in(body: AsyncIterator[bytes], intake: Intake) -> Sequence[SyncResult]:
    """Feed *body* to *intake*, receiving and writing at the same time; return its results."""
    writing: asyncio.Task[None] | None = None
    batch: list[bytes] = []
    size = 0
    try:
        async for piece in body:
            batch.append(piece)
            size += len(piece)
            idle = writing is None or writing.done()
            if size < (BATCH if idle else BATCH_MOST):
                continue
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(to_thread.run_sync(intake.take, batch))
            batch, size = [], 0
        if writing is not None:
            await writing
            writing = None
        return await to_thread.run_sync(_end, intake, batch)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await _give_up(intake, writing, batch, cut=not isinstance(error, PhysicsRunnerError))
        failure = parse_failure(error) if isinstance(error, Exception) else None
        if failure is not None:
            raise failure from None
        raise


def _end(intake: Intake, batch: Sequence[bytes]) -> Sequence[SyncResult]:
    intake.take(batch)
    return intake.finish()


async def _give_up(
    intake: Intake, writing: asyncio.Task[None] | None, batch: Sequence[bytes], *, cut: bool
) -> None:
    """Keep what arrived: let the thread end, write the last pieces of a body that was cut."""
    if writing is not None:
        await asyncio.wait([writing])
        failed = writing.cancelled() or writing.exception() is not None
        cut = cut and not failed

    def last() -> None:
        try:
            if cut:
                intake.take(batch)
        except (PhysicsRunnerError, ValueError, OSError, RecursionError):
            return  # the sender is gone; nobody can be told, and it asks for the offsets again
        finally:
            intake.abort()

    await to_thread.run_sync(last)
