"""
Bodies of requests and answers: JSON to messages and back, and big bodies to a file.

Promises: what cannot be read raises `InvalidRequest` and says where; answers are strict JSON
(numbers that JSON has no word for, NaN and infinities, become texts); a body that is stored goes
to the disk piece by piece and leaves nothing behind when it fails. A large body is read in a
thread, few at once; one that would hold up all others is refused (`wire.reading`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import Request, Response

from physicsrunner.errors import InvalidRequest
from physicsrunner.wire import codec
from physicsrunner.wire.reading import LARGE, MOST_MARKS, loads

T = TypeVar("T")

PIECE: Final = 1024 * 1024  #: bytes that are handed to the disk at once
_strict: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_READING: Final = 2  # large bodies that are read at once
_readers: RunVar[CapacityLimiter] = RunVar("readers of large bodies")


@dataclass(frozen=True)
class StoredBody:
    """A body that lies in a file."""

    path: Path
    size: int
    sha256: str


async def json_of(request: Request) -> Any:
    """Return the request's JSON value; an empty body is an empty object."""
    return await parsed_body(await request.body())


async def parsed_body(body: bytes) -> Any:
    """Return the JSON value that *body* is, without holding up the event loop for long."""
    return await read(body, parsed)


async def read(body: bytes, call: Callable[[bytes], T]) -> T:
    """
    Return what *call* makes of *body*: of a small one at once, of a large one in a thread.

    The event loop goes on only while Python code runs.
    """
    if len(body) <= LARGE:
        return call(body)
    limiter = _readers.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_READING)
        _readers.set(limiter)
    return await to_thread.run_sync(call, body, limiter=limiter)


def parsed(body: bytes, most: int = MOST_MARKS) -> Any:
    """Return the JSON value that *body* is; an empty one is an empty object."""
    try:
        return loads(body, most=most) if body.strip() else {}
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {str(error)[:200]}") from None


async def message(request: Request, kind: type[T]) -> T:
    """Return the request's JSON as a *kind*."""
    return await read(await request.body(), lambda body: codec.decode(kind, parsed(body)))


async def exchanged(request: Request, kind: type[T], call: Callable[[T], Any]) -> Response:
    """
    Answer the request's message, a *kind*, with what *call* returns.

    All of it happens in a thread: reading and writing what an agent of a thousand runs says would
    keep everybody else waiting on the event loop.
    """
    body = await request.body()

    def work() -> bytes:
        return dumps(call(codec.decode(kind, parsed(body))))

    return Response(await to_thread.run_sync(work), media_type="application/json")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return *value* (messages, lists and dicts of them) as a JSON answer."""
    return Response(dumps(value), status, headers=headers, media_type="application/json")


def plain_answer(value: Any, status: int = 200) -> Response:
    """Return *value*, which is plain JSON already, as an answer: a page of runs in one pass."""
    return Response(_text(value), status, media_type="application/json")


def dumps(value: Any) -> bytes:
    """Return *value* as strict JSON, UTF-8."""
    return _text(codec.encode(value))


def _text(plain: Any) -> bytes:
    try:
        text = _strict(plain)
    except ValueError:
        text = _strict(_without_nan(plain))
    return text.encode()


class StrictJson:
    """The part of the module ``json`` that socket.io uses; what it writes every reader takes."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value: Any, **options: Any) -> str:
        """Return *value* as strict JSON."""
        try:
            return json.dumps(value, allow_nan=False, **options)
        except ValueError:
            return json.dumps(_without_nan(value), allow_nan=False, **options)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value


@asynccontextmanager
async def stored(request: Request, folder: Path) -> AsyncIterator[StoredBody]:
    """Give the request's body as a file in *folder*, which is removed if it is still there."""
    handle, name = tempfile.mkstemp(dir=folder, prefix="body-")
    path = Path(name)
    digest = hashlib.sha256()
    size = 0
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:

            def write(pieces: list[bytes]) -> None:
                for piece in pieces:
                    digest.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) :]

            pieces: list[bytes] = []
            waiting = 0
            async for piece in request.stream():
                pieces.append(piece)
                waiting += len(piece)
                size += len(piece)
                if waiting >= PIECE:
                    await to_thread.run_sync(write, pieces)
                    pieces, waiting = [], 0
            await to_thread.run_sync(write, pieces)
        yield StoredBody(path, size, digest.hexdigest())
    finally:
        path.unlink(missing_ok=True)
