"""Logs and series of a run: read from an offset on, or followed until the run ends."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
from anyio import to_thread
from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from physicsrunner.core.state import TERMINAL
from physicsrunner.errors import NotAllowed, NotAuthenticated, NotFound
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives, gives_bytes
from physicsrunner.server.parts import Parts, Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest

router = APIRouter(tags=["files"])

Reader = Annotated[Identity, Allowed("files:read")]

_RUN: Final = f"{rest.SIMULATIONS}/{{run}}"
MAIN_LOG: Final = "logs/main.log"
SERIES: Final = "metadata/series.jsonl"
PIECE: Final = 1024 * 1024
#: A follower looks again so often even when no event came (an event may be lost with a restart).
LOOK_AGAIN_S: Final = 15.0


@router.get(
    f"{_RUN}/logs",
    summary="Read or follow a log",
    response_class=Response,
    responses=gives_bytes("text/plain", "Text; X-Offset is where to go on", "Time = 0.005\n"),
)
async def logs(
    run: str,
    who: Reader,
    parts: Shared,
    path: Annotated[str, Query(description="A file below logs/")] = MAIN_LOG,
    offset: Annotated[int, Query(ge=0, description="In bytes")] = 0,
    limit: Annotated[int, Query(ge=0, le=64 * PIECE)] = 4 * PIECE,
    attempt: Annotated[int | None, Query(ge=1)] = None,
    follow: bool = False,
) -> Response:
    """
    Answer with at most ``limit`` bytes from ``offset`` on.

    Values of the run's secrets are covered: ``*`` for each byte. The artifact is as it was written.

    With ``follow=true`` the answer goes on until the run has ended (``limit`` does not count), or
    the token is no longer good.
    """
    reader = _Reader(parts, who, run, path, attempt)
    await to_thread.run_sync(reader.check)
    if follow:
        body = reader.follow(offset)
        return StreamingResponse(body, media_type="text/plain", headers={"X-Accel-Buffering": "no"})
    data, size = await to_thread.run_sync(reader.read, offset, limit)
    headers = {"X-Offset": str(offset + len(data)), "X-Size": str(size)}
    return Response(data, media_type="text/plain", headers=headers)


@router.get(
    f"{_RUN}/series",
    summary="Live series of a run",
    responses=gives(
        {"data": list[object], "next_line": int},
        {"data": [{"series": "residual/Ux", "x": 12, "y": 1e-5}], "next_line": 1},
    ),
)
async def series(
    run: str,
    who: Reader,
    parts: Shared,
    after_line: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
    attempt: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """List the points from line ``after_line`` on; ``next_line`` is where to go on."""
    reader = _Reader(parts, who, run, SERIES, attempt)

    def find() -> dict[str, Any]:
        reader.check()
        points, line = _points(reader.path(), after_line, limit)
        return {"data": points, "next_line": line}

    return answer(await to_thread.run_sync(find))


class _Reader:
    """One file of one run, read again and again while it grows."""

    def __init__(
        self, parts: Parts, who: Identity, run: str, path: str, attempt: int | None
    ) -> None:
        self._parts = parts
        self._who = who
        self._run = run
        self._path = path
        self._attempt = attempt
        self._over = False  # nothing is added any more
        self._lost = False  # the caller may read it no more

    def check(self) -> None:
        """Raise unless the caller may read the run; remember its id and attempt."""
        found = self._parts.services.runs.get(self._who, self._run)
        self._run, self._over = found.id, found.status in TERMINAL

    def path(self) -> Path | None:
        """Return where the file lies; None when it is not there yet."""
        files = self._parts.services.files
        try:
            return files.path(self._who, self._run, self._path, self._attempt)
        except NotFound:
            return None

    def read(self, offset: int, limit: int) -> tuple[bytes, int]:
        """Return the bytes from *offset* on, at most *limit*, and the file's size."""
        path = self.path()
        if path is None:
            return b"", 0
        mask = self._parts.services.files.masks.of(self._run)
        try:
            with path.open("rb") as file:
                if mask is not None:
                    return mask.read(file, offset, limit, ended=self._over)
                size = file.seek(0, 2)
                file.seek(min(offset, size))
                return file.read(limit), size
        except FileNotFoundError:
            return b"", 0

    def _ended(self) -> bool:
        """Say whether nothing comes any more, at least not for the caller."""
        try:
            # Who follows for hours is asked again who they are: the token may have been revoked.
            self._who = self._parts.services.access.present(self._who)
            self.check()
        except (NotAuthenticated, NotAllowed, NotFound):
            self._lost = True
        return self._over or self._lost

    async def follow(self, offset: int) -> AsyncIterator[bytes]:
        """Yield what comes until the run has ended and all of it was read."""
        with self._parts.hub.watch(self._run) as changed:
            while True:
                changed.clear()
                # Asked before reading: what is read after the end is all there is.
                ended = await to_thread.run_sync(self._ended)
                data, until = b"", time.monotonic() + LOOK_AGAIN_S
                while not self._lost:
                    data, _ = await to_thread.run_sync(self.read, offset, PIECE)
                    if not data:
                        break
                    offset += len(data)
                    yield data
                    if time.monotonic() >= until:
                        break
                if data:
                    continue  # a log that always has more, or who reads slowly, ends no check
                if ended or self._parts.hub.closed:
                    return
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await changed.wait()


def _points(path: Path | None, after_line: int, limit: int) -> tuple[list[Any], int]:
    """Return the points of whole lines from *after_line* on, and the number of the next line."""
    points: list[Any] = []
    line = after_line
    if path is None:
        return points, line
    with path.open("rb") as file:
        for text in itertools.islice(file, after_line, after_line + limit):
            if not text.endswith(b"\n"):
                break  # its rest is on the way
            line += 1
            try:
                points.append(json.loads(text))
            except ValueError:
                continue
    return points, line
