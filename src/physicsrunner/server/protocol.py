"""
uvicorn's HTTP protocol, with a shorter way for bodies of many megabytes.

Why: uvicorn reads a body in pieces of at most 256 KiB, hands each to the HTTP parser, copies it
twice and pauses the connection after every 64 KiB, which held a body of 1 GiB to 600 MB/s on the
event loop alone. When the length of a body is known, nothing in it needs parsing: here the kernel
writes it straight into buffers of `BUFFER` bytes, which the application gets without a copy.

How: after the head of such a request the connection is given to a `_Sink` (an
`asyncio.BufferedProtocol`) that never reads past the body's last byte, and then back to uvicorn's
protocol with a fresh parser.

Promises: the application sees ASGI as before, except that ``body`` may be a memoryview; at most
`HIGH_WATER` bytes and two buffers wait for it. Bytes that arrived before the connection was lost
are delivered before the news of the loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LARGE: Final = 1024 * 1024  #: a body from here on goes the short way
BUFFER: Final = 1024 * 1024
LEAST: Final = 128 * 1024  #: a buffer with less room than this is not read into any more
HIGH_WATER: Final = 2 * 1024 * 1024
KEPT: Final = 8  #: buffers that are used again


class BodyProtocol(HttpToolsProtocol):
    """See the module."""

    _left: int = 0  # bytes to come of a large body
    _sinks: list[_Sink]

    def on_headers_complete(self) -> None:
        """Note the length of a large body."""
        before = self.cycle
        super().on_headers_complete()
        free = before is None or before.response_complete
        if self.cycle is before or not free:  # an upgrade, or a request behind another one
            return
        length = _content_length(self.headers)
        # Under TLS the kernel has other bytes than the body's: there uvicorn's own way is taken.
        self._left = length if length >= LARGE and self.scheme == "http" else 0

    def on_body(self, body: bytes) -> None:
        """Count what came through the parser."""
        super().on_body(body)
        if self._left:
            self._left -= len(body)

    def data_received(self, data: bytes) -> None:
        """Take what the parser must see; then, in a large body, step aside."""
        super().data_received(data)
        if self._left > 0 and self.parser is not None and not self.transport.is_closing():
            sink = _Sink(self, self.cycle, self._left)
            self._left = 0
            self._sinks.append(sink)
            self._hand_to(sink)

    def body_ended(self) -> None:
        """Go on after a body that the sink took: the next byte begins a request."""
        self._hand_to(self)
        self.parser = httptools.HttpRequestParser(self)
        self.on_message_complete()

    def _hand_to(self, protocol: asyncio.BaseProtocol) -> None:
        # uvloop chooses how to read when it starts reading, so it has to start anew.
        if not self.flow.read_paused:
            self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if not self.flow.read_paused:
            self.transport.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        sinks: list[_Sink] = []  # none, or the one of this request once it is there
        self._sinks = sinks

        async def with_sink(scope: Any, _receive: Any, send: Any) -> None:
            async def receive() -> Any:
                while True:
                    body = _arrived(cycle, sinks)
                    if body is not None:
                        more = cycle.more_body or any(sink.waiting for sink in sinks)
                        return {"type": "http.request", "body": body, "more_body": more}
                    message: Any = await cycle.receive()
                    # It came through the parser, or it says "the end" or "lost", or it is empty
                    # because the sink woke us. What has arrived comes before any end.
                    if message.get("body"):
                        return {**message, "more_body": True} if sinks else message
                    here = cycle.body or any(sink.waiting for sink in sinks)
                    if cycle.response_complete or not (here or message.get("more_body")):
                        return message

            await app(scope, receive, send)

        super()._start_asgi_task(cycle, with_sink)


class _Sink(asyncio.BufferedProtocol):
    """Takes the rest of one body, exactly."""

    def __init__(self, owner: BodyProtocol, cycle: RequestResponseCycle, left: int) -> None:
        self.cycle = cycle
        self._owner = owner
        self._left = left
        self._buffers = _Buffers(min(BUFFER, left))
        self._buffer = self._buffers.take()
        self._filled = 0
        self._pieces: deque[memoryview] = deque()
        self.waiting = 0  #: bytes that wait for the application
        self._least = min(BUFFER, left)
        self.wake_after(self._least)

    def wake_after(self, count: int) -> None:
        """Have the kernel wake us for no less than *count* bytes (or the end); a hint."""
        sock = self._owner.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Give the kernel room, never for more than the body."""
        if len(self._buffer) - self._filled < min(LEAST, self._left):
            self._buffer = self._buffers.take()
            self._filled = 0
        return self._buffer[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came, for the application."""
        piece = self._buffer[self._filled : self._filled + nbytes]
        self._filled += nbytes
        self._left -= nbytes
        if not self.cycle.response_complete:
            self._pieces.append(piece)
            self.waiting += nbytes
            if self.waiting >= HIGH_WATER:
                self._owner.flow.pause_reading()
        if self._left < self._least:
            self._least = max(1, self._left)
            self.wake_after(self._least)
        if self._left == 0:
            self._owner.body_ended()
        self.cycle.message_event.set()

    def next(self) -> memoryview:
        """Return the next piece of the body; empty when nothing waits."""
        piece = self._pieces.popleft() if self._pieces else memoryview(b"")
        self.waiting -= len(piece)
        return piece

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._owner.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass it on."""
        self._owner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._owner.resume_writing()


class _Buffers:
    """Buffers of one body, used again: fresh memory for every piece costs as much as hashing it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._all: list[bytearray] = []

    def take(self) -> memoryview:
        """Return a buffer that nobody looks at any more, or a new one."""
        for buffer in self._all:
            if _is_free(buffer):
                return memoryview(buffer)
        buffer = bytearray(self._size)
        if len(self._all) < KEPT:
            self._all.append(buffer)
        return memoryview(buffer)


def _is_free(buffer: bytearray) -> bool:
    """Say whether no memoryview of *buffer* is left: only then can its length change."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


def _arrived(cycle: RequestResponseCycle, sinks: list[_Sink]) -> bytes | memoryview | None:
    """Return what waits of the body, however the connection is: first what was parsed."""
    if cycle.response_complete:
        return None
    body: bytes | memoryview = bytes(cycle.body)
    cycle.body = bytearray()
    for sink in sinks:
        body = body or sink.next()
    if not body:
        return None
    if not cycle.disconnected:
        cycle.flow.resume_reading()
    return body


def _content_length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the body's length; 0 when it is not known beforehand."""
    found = dict(headers)
    length = found.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in found else 0
