"""
Files on their way out: ranges, tags and zip archives, streamed.

Promises: HTTP Range (also several), If-Range, If-None-Match, 416; a Range that is none is passed
over; an answer is as long as it says, also of a file that grows meanwhile; a sealed file's ETag is
its SHA-256. Files are made by users' programs: a browser is told to save and never to run them.
An archive is written while it is read (ZIP64, no temporary file); memory stays bounded.
"""

from __future__ import annotations

import os
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from physicsrunner.errors import NotFound

PIECE: Final = 1024 * 1024
_SAMPLE: Final = 64 * 1024
_WORTH: Final = 0.8  # compress what shrinks to this or less
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)  # of the zip format
_PART: Final = r"(\d{1,18}-\d{0,18}|-\d{1,18})"
_RANGE: Final = re.compile(rf"bytes=\s*{_PART}(\s*,\s*{_PART})*\s*", re.ASCII)
_FROM_TO: Final = re.compile(r"(\d+)-(\d+)")
#: Of every file that goes out.
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}


class _Pieces(FileResponse):
    chunk_size = PIECE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = 0

        async def bounded(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = int(dict(message["headers"]).get(b"content-length", b"0"))
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")[:left]
                left -= len(body)
                message = {**message, "body": body}
            await send(message)

        await super().__call__({**scope, "headers": _ranged(scope["headers"])}, receive, bounded)


def _ranged(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return *headers* without a Range that is none (RFC 9110: then there was none)."""
    return [
        (name, value)
        for name, value in headers
        if name != b"range" or _is_range(value.decode("latin-1"))
    ]


def _is_range(text: str) -> bool:
    if not _RANGE.fullmatch(text):
        return False
    return all(int(first) <= int(last) for first, last in _FROM_TO.findall(text))


def file_response(
    request: Request, path: Path, *, name: str, sha256: str | None = None, media: str | None = None
) -> Response:
    """
    Return the answer with the file at *path*, or the part of it that *request* asks for.

    Call it in a worker thread: it asks the disk. *sha256* is the file's when it is sealed.
    """
    try:
        found = path.stat()
    except OSError:
        raise NotFound(f"there is no file {name!r}") from None
    if not stat.S_ISREG(found.st_mode):
        raise NotFound(f"{name!r} is not a file")
    headers = dict(HEADERS)
    tag = f'"{sha256}"' if sha256 else f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
    headers["ETag"] = tag
    if tag in tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return _Pieces(
        path,
        headers=headers,
        media_type=media,
        filename=os.path.basename(name) or "file",  # noqa: PTH119 - a name of ours, not a path
        stat_result=found,
    )


def tags(header: str | None) -> set[str]:
    """Return the tags that an If-None-Match names."""
    return {part.strip().removeprefix("W/") for part in (header or "").split(",")}


class _Outbox:
    """A stream that cannot seek: what is written is taken out again piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        return

    def close(self) -> None:
        return

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts, self.size = [], 0
        return data


def archive(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """
    Yield a zip of *files*, ``(name in the archive, path)``, in pieces of about 1 MiB.

    A file that is gone when its turn comes is left out. One that still grows is taken as far as
    it had grown.
    """
    out = _Outbox()
    with zipfile.ZipFile(out, "w", allowZip64=True) as target:
        for name, path in files:
            try:
                source = path.open("rb")
            except OSError:
                continue
            with source:
                size = os.fstat(source.fileno()).st_size
                info = zipfile.ZipInfo(name, _date(os.fstat(source.fileno()).st_mtime))
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                sample = source.read(_SAMPLE)
                info.compress_type = _compression(sample)
                info.file_size = size
                source.seek(0)
                with target.open(info, "w", force_zip64=True) as entry:
                    while piece := source.read(PIECE):
                        entry.write(piece)
                        if out.size >= PIECE:
                            yield out.take()
    yield out.take()


def _compression(sample: bytes) -> int:
    if len(sample) < 64 or len(zlib.compress(sample, 1)) > _WORTH * len(sample):
        return zipfile.ZIP_STORED
    return zipfile.ZIP_DEFLATED


def _date(mtime: float) -> tuple[int, int, int, int, int, int]:
    found = time.gmtime(mtime)[:6]
    return max(found, _EARLIEST)
