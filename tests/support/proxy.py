"""
A faulty line: a TCP proxy that understands just enough HTTP to break it where a test wants.

Promises:

- Bytes pass unchanged unless a fault says otherwise. Websockets and long answers pass as well.
- A fault is chosen for a request when its head has been read (`inject`, or the function
  `choose`), and counted in `injected` when it has really happened.
- `close` ends all connections and threads.

Global conditions: `rate` (bytes a second, all connections together, both ways),
`refusing` (every connection is reset: the server is away), `silent` (nothing passes, nothing is
closed: the line is dead and neither side knows).
"""

from __future__ import annotations

import collections
import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

HEAD_LIMIT = 65536
PIECE = 65536
TICK = 0.02


@dataclass(frozen=True)
class Fault:
    """
    What happens to one request.

    ``unavailable``: the body is swallowed and 503 answered. ``reset``: a TCP reset after *after*
    bytes of the body. ``cut``: both sides are closed politely after *after* bytes. ``lost_answer``:
    the server gets the whole request, its answer is dropped and the client gets a reset.
    ``stall``: after *after* bytes nothing passes for *seconds*, then a reset.
    """

    kind: str
    after: int = 0
    seconds: float = 0.0
    retry_after: float | None = None


KINDS = ("unavailable", "reset", "cut", "lost_answer", "stall")


@dataclass
class _Planned:
    match: re.Pattern[str]
    fault: Fault
    times: int


class FaultProxy:
    """A proxy from a free port of 127.0.0.1 to *upstream_port* of 127.0.0.1."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.rate: float | None = None
        self.refusing = False
        self.silent = False
        self.choose: Callable[[str], Fault | None] | None = None
        self.injected: collections.Counter[str] = collections.Counter()
        self.requests: list[str] = []  #: "METHOD /path" of every request, in order
        self.forwarded = 0  #: bytes that went to the server
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._planned: list[_Planned] = []
        self._live: set[_Line] = set()
        self._clear_at = 0.0
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads.append(threading.Thread(target=self._accept, name="proxy-accept"))
        self._threads[0].start()

    @property
    def url(self) -> str:
        """The address that a client uses in place of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def inject(self, fault: Fault, *, times: int = 1, match: str = "") -> None:
        """Let *fault* happen to the next *times* requests whose "METHOD /path" has *match*."""
        with self.lock:
            self._planned.append(_Planned(re.compile(match), fault, times))

    def pending(self) -> int:
        """Return how many injected faults still wait for their request."""
        with self.lock:
            return sum(planned.times for planned in self._planned)

    def reset_all(self) -> int:
        """Reset all connections that are open now; return how many."""
        with self.lock:
            lines = list(self._live)
        for line in lines:
            line.doomed = True
        return len(lines)

    def close(self) -> None:
        """End all connections and threads."""
        self.closing.set()
        for thread in list(self._threads):
            thread.join(10.0)
        self._listener.close()

    def fault_for(self, request: str) -> Fault | None:
        """Return what happens to this request, and use it up."""
        with self.lock:
            self.requests.append(request)
            for planned in self._planned:
                if planned.match.search(request):
                    planned.times -= 1
                    if planned.times <= 0:
                        self._planned.remove(planned)
                    return planned.fault
        return self.choose(request) if self.choose is not None else None

    def count(self, kind: str) -> None:
        """Note that a fault has happened."""
        with self.lock:
            self.injected[kind] += 1

    def pace(self, amount: int) -> None:
        """Wait until *amount* more bytes may pass at `rate`."""
        with self.lock:
            if not self.rate:
                return
            now = time.monotonic()
            self._clear_at = max(now, self._clear_at) + amount / self.rate
            wait = self._clear_at - now
        self.closing.wait(wait)

    def _accept(self) -> None:
        while not self.closing.is_set():
            if not select.select([self._listener], [], [], TICK)[0]:
                continue
            client, _ = self._listener.accept()
            client.settimeout(10.0)
            if self.refusing:
                self.count("refused")
                _reset(client)
                continue
            line = _Line(self, client)
            thread = threading.Thread(target=self._carry, args=(line,), name="proxy-line")
            with self.lock:
                self._live.add(line)
                self._threads = [t for t in self._threads if t.is_alive()]
                self._threads.append(thread)
            thread.start()

    def _carry(self, line: _Line) -> None:
        try:
            line.carry()
        finally:
            line.end()
            with self.lock:
                self._live.discard(line)


class _Ended(Exception):
    """The connection is over."""


@dataclass(eq=False)
class _Line:
    """One connection of a client and its connection to the server."""

    proxy: FaultProxy
    client: socket.socket
    server: socket.socket | None = None
    doomed: bool = False  #: reset it as soon as possible
    buffer: bytes = b""  #: read from the client, not yet looked at
    body: _Body | None = None
    fault: Fault | None = None
    passed: int = 0  #: bytes of the present body that went on
    raw: bool = False  #: upgraded to a websocket: no more HTTP
    lose: bool = False  #: the next bytes of the server are dropped

    def carry(self) -> None:
        """Carry bytes until one side ends or a fault ends it."""
        with contextlib.suppress(_Ended, OSError):
            while not self.proxy.closing.is_set():
                if self.doomed:
                    self._reset()
                if self.proxy.silent:
                    self.proxy.closing.wait(TICK)
                    continue
                sides = [side for side in (self.client, self.server) if side is not None]
                ready = select.select(sides, [], [], TICK)[0]
                if self.server in ready and self.server is not None:
                    self._from_server(self.server)
                if self.client in ready:
                    self._from_client()

    def end(self) -> None:
        """Close both sides."""
        for side in (self.client, self.server):
            if side is not None:
                side.close()

    def _reset(self) -> None:
        for side in (self.client, self.server):
            if side is not None:
                _reset(side)
        raise _Ended

    def _from_server(self, server: socket.socket) -> None:
        data = server.recv(PIECE)
        if self.lose and data:
            self.proxy.count("lost_answer")
            self._reset()
        if not data:
            raise _Ended
        self.proxy.pace(len(data))
        self.client.sendall(data)

    def _from_client(self) -> None:
        data = self.client.recv(PIECE)
        if not data:
            raise _Ended
        if self.proxy.refusing:
            self.proxy.count("refused")
            self._reset()
        if self.raw:
            self._forward(data)
            return
        self.buffer += data
        while self.buffer and not self.raw:
            if self.body is None:
                if not self._head():
                    return
            elif self._take_body():
                self._request_ends()

    def _head(self) -> bool:
        """Take one request's head from the buffer; False: it is not whole yet."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > HEAD_LIMIT:
                raise _Ended
            return False
        head, self.buffer = self.buffer[: end + 4], self.buffer[end + 4 :]
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        self.fault = self.proxy.fault_for(" ".join(words[:2]))
        self.passed = 0
        self.body = _Body.of(head)
        if self.fault is None or self.fault.kind != "unavailable":
            self._forward(head)
        if b"\r\nupgrade: websocket" in head.lower():
            self.raw = True
            self._forward(self.buffer)
            self.buffer = b""
        elif self.body.done:
            self._request_ends()
        return True

    def _take_body(self) -> bool:
        """Pass on what the buffer has of the body; True when it is whole."""
        assert self.body is not None
        piece, self.buffer = self.body.take(self.buffer)
        fault = self.fault
        if fault is None or fault.kind in ("lost_answer", "unavailable"):
            if fault is None or fault.kind == "lost_answer":
                self._forward(piece)
            return self.body.done
        room = fault.after - self.passed
        if len(piece) < room:
            self._forward(piece)
            self.passed += len(piece)
            return self.body.done
        self._forward(piece[: max(0, room)])
        self._break(fault)
        return True

    def _request_ends(self) -> None:
        self.body = None
        fault, self.fault = self.fault, None
        if fault is None:
            return
        if fault.kind == "unavailable":
            self.proxy.count("unavailable")
            extra = "" if fault.retry_after is None else f"Retry-After: {fault.retry_after:g}\r\n"
            answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
            self.client.sendall(f"{answer}{extra}\r\n".encode())
        elif fault.kind == "lost_answer":
            self.lose = True
        else:  # the body was shorter than *after*: it happens at its end
            self._break(fault)

    def _break(self, fault: Fault) -> None:
        self.proxy.count(fault.kind)
        if fault.kind == "cut":
            raise _Ended
        if fault.kind == "stall":
            self.proxy.closing.wait(fault.seconds)
        self._reset()

    def _forward(self, data: bytes) -> None:
        if self.server is None:
            self.server = socket.create_connection(("127.0.0.1", self.proxy.upstream_port), 10.0)
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if select.select([self.server], [], [], 0)[0]:
                self._from_server(self.server)  # an early answer, or it hung up
            self.proxy.pace(len(piece))
            self.proxy.forwarded += len(piece)
            self.server.sendall(piece)


@dataclass
class _Body:
    """Where a request's body ends: after so many bytes, or after its last chunk."""

    left: int = 0
    chunked: bool = False
    last: bool = False  #: the chunk of size 0 has come
    tail: bytes = b""  #: the beginning of a size line
    done: bool = False

    @classmethod
    def of(cls, head: bytes) -> _Body:
        """Read the framing from a request's head."""
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            return cls(chunked=True)
        found = re.search(rb"\r\ncontent-length:\s*(\d+)", lower)
        left = int(found[1]) if found else 0
        return cls(left=left, done=left == 0)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split *data* into what belongs to this body and what follows it."""
        if not self.chunked:
            piece, rest = data[: self.left], data[self.left :]
            self.left -= len(piece)
            self.done = self.left == 0
            return piece, rest
        return self._take_chunks(data)

    def _take_chunks(self, data: bytes) -> tuple[bytes, bytes]:
        at = 0
        while at < len(data) and not self.done:
            if self.left:
                step = min(self.left, len(data) - at)
                self.left -= step
                at += step
                self.done = self.last and self.left == 0
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self.tail += data[at:]
                return data, b""
            size = int((self.tail + data[at : end + 1]).split(b";")[0], 16)
            self.tail = b""
            at = end + 1
            self.last = size == 0  # trailers are not used by our clients
            self.left = size + 2  # with the line end that follows the chunk
        return data[:at], data[at:]


def _reset(side: socket.socket) -> None:
    """Close with a TCP reset."""
    with contextlib.suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()
