"""
Files out of zips on their way out, streamed: nothing is unpacked onto the disk.

Promises: HEAD and If-None-Match unpack nothing; one Range, with If-Range, is answered with 206 or
416, and nothing behind its end is unpacked; of several the whole file is the answer, as RFC 9110
lets a server. As many pieces are unpacked at once as the caller's limiter lets; memory stays
bounded. Headers are those of `downloads`.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import AsyncIterator
from typing import IO, Final
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from physicsrunner.server.downloads import HEADERS, PIECE, tags
from physicsrunner.service.tickets import Member

_ONE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII)


class Unpacking:
    """Answers with files of zips; so many are unpacked at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiter: CapacityLimiter | None = None

    def response(self, request: Request, member: Member) -> Response:
        """Return the answer with *member*, or the part of it that *request* asks for."""
        tag, size = f'"{member.tag}"', member.size
        name = quote(os.path.basename(member.name), safe="")  # noqa: PTH119 - not a path of ours
        headers = {
            **HEADERS,
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"attachment; filename*=utf-8''{name}",
        }
        if tag in tags(request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = "application/octet-stream"
        if request.method == "HEAD":
            return Response(headers={**headers, "Content-Length": str(size)})
        part = _part(request, size, tag)
        if part is None:
            part, status = range(size), 200
        elif not part:
            return Response(
                status_code=416, headers={**HEADERS, "Content-Range": f"bytes */{size}"}
            )
        else:
            status = 206
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        headers["Content-Length"] = str(len(part))
        return StreamingResponse(self._pieces(member, part), status, headers)

    async def _pieces(self, member: Member, part: range) -> AsyncIterator[bytes]:
        """Yield *part* of *member*; what comes before it has to be unpacked, and is let go."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._most)
        at = 0
        archive = await to_thread.run_sync(lambda: zipfile.ZipFile(member.bundle))
        with archive, archive.open(member.name) as file:
            while at < part.stop:
                wanted = min(PIECE, part.stop - at)
                piece = await to_thread.run_sync(_read, file, wanted, limiter=self._limiter)
                shown = piece[max(0, part.start - at) :]
                at += len(piece)
                if shown:
                    yield shown


def _read(file: IO[bytes], length: int) -> bytes:
    piece = file.read(length)
    if not piece:
        raise EOFError("a file of a bundle is shorter than the bundle says")
    return piece


def _part(request: Request, size: int, tag: str) -> range | None:
    """Return the part that is asked for, empty where there is none; None: all of it."""
    found = _ONE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
