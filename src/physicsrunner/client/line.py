"""
One connection that speaks HTTP/1.1 without TLS: a request out, its answer in.

Promises: a head and a small body leave in one piece, so that the other side is woken once for
both; files are sent by the kernel. What is not an answer of HTTP/1, a head without end and a body
that is cut are errors (`OSError`). Of an answer only what such a connection needs is understood:
its status, its headers, a body of known length, in chunks, or to the end of the connection.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

from physicsrunner.client.body import FileSlice

_TOGETHER: Final = 64 * 1024  # bytes that are sent at once
_LONGEST: Final = 64 * 1024  # bytes of a line of the head
_MOST: Final = 200  # headers
_NEVER_IN_A_HEAD: Final = re.compile("[\r\n\0]")
_LENGTH: Final = re.compile(rb"[0-9a-fA-F]{1,16}")
_BYTES: Final = (bytes, bytearray, memoryview)
_WITHOUT_BODY: Final = frozenset({204, 304})


class Headers(dict[str, str]):
    """Headers by name, in whatever case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of *name*, or *default*."""
        return super().get(name.lower(), default)


class Answer:
    """The answer to one request, whose body is still to be read."""

    def __init__(self, file: Any, *, to_head: bool) -> None:
        self._file = file
        version, self.status = self._started()
        while 100 <= self.status < 200:  # there is more to come
            _headers(file)
            version, self.status = self._started()
        self.headers = headers = _headers(file)
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left: int | None = int(length) if length.isdigit() and not self._chunked else None
        if to_head or self.status in _WITHOUT_BODY:
            self._chunked, self._left = False, 0
        said = headers.get("connection", "").lower()
        old = version == b"HTTP/1.0" and "keep-alive" not in said
        endless = self._left is None and not self._chunked
        self.will_close = old or endless or "close" in said
        self.ended = self._left == 0

    def pieces(self, size: int) -> Iterator[bytes]:
        """Iterate over the body in pieces of at most *size* bytes."""
        if self._chunked:
            yield from self._chunks(size)
        while not self.ended and self._left is None:
            data = self._file.read1(size)
            self.ended = not data
            if data:
                yield data
        while self._left:
            data = self._file.read(min(size, self._left))
            if not data:
                raise ConnectionResetError(f"{self._left} bytes of the body did not come")
            self._left -= len(data)
            self.ended = not self._left
            yield data

    def read(self) -> bytes:
        """Return what is left of the body."""
        return b"".join(self.pieces(_TOGETHER if self._left is None else max(1, self._left)))

    def _chunks(self, size: int) -> Iterator[bytes]:
        # Passed on as they come: a stream's reader waits for none but the next.
        while not self.ended:
            text = _line(self._file).partition(b";")[0].strip()
            if not _LENGTH.fullmatch(text):
                raise ConnectionResetError("this is no chunk of a body")
            left = int(text, 16)
            if not left:
                _headers(self._file)
                self.ended = True
                return
            while left:
                data = self._file.read1(min(size, left))
                if not data:
                    raise ConnectionResetError("the body ends within a chunk")
                left -= len(data)
                yield data
            if _line(self._file).strip():
                raise ConnectionResetError("a chunk of the body is longer than it says")

    def _started(self) -> tuple[bytes, int]:
        version, _, rest = _line(self._file).partition(b" ")
        status = rest[:3]
        if not version.startswith(b"HTTP/1.") or not status.isdigit() or len(status) < 3:
            raise ConnectionResetError("this is no answer of HTTP/1")
        return version, int(status)


class Line:
    """A connection to one host."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.place = (host, port)
        name = f"[{host}]" if ":" in host else host
        self._name = name if port == 80 else f"{name}:{port}"
        self._sock = socket.create_connection((host, port), timeout)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")
        self._timeout = timeout
        self._waiting = bytearray()

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: Any, timeout: float
    ) -> None:
        """Send a request. A *body* without ``Content-Length`` goes in chunks."""
        if timeout != self._timeout:
            self._sock.settimeout(timeout)
            self._timeout = timeout
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._name}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        chunked = body is not None and "Content-Length" not in headers
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        if _NEVER_IN_A_HEAD.search("".join(lines)):
            raise ValueError("a header holds the end of a line")
        self._waiting = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1"))
        for piece in (body,) if isinstance(body, _BYTES) else body or ():
            if not len(piece):
                continue
            if chunked:
                self._send(b"%x\r\n" % len(piece))
            self._send(piece)
            if chunked:
                self._send(b"\r\n")
        if chunked:
            self._send(b"0\r\n\r\n")
        self._flush()

    def answer(self, method: str) -> Answer:
        """Return the answer to the request *method* that was sent last."""
        return Answer(self._file, to_head=method == "HEAD")

    def is_dropped(self) -> bool:
        """Say whether the other side has closed it meanwhile."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._sock.close()

    def _send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            self._flush()
            data.send_to(self._sock)
            return
        if len(self._waiting) + len(data) > _TOGETHER:
            self._flush()
        if len(data) > _TOGETHER:
            self._sock.sendall(data)
        else:
            self._waiting += data

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        if waiting:
            self._sock.sendall(waiting)


def _line(file: Any) -> bytes:
    """Return one line of a head, with its end."""
    line: bytes = file.readline(_LONGEST + 1)
    if not line.endswith(b"\n"):
        raise ConnectionResetError("no answer came, or a line without end")
    return line


def _headers(file: Any) -> Headers:
    headers = Headers()
    for _ in range(_MOST):
        line = _line(file)
        if line in (b"\r\n", b"\n"):
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ConnectionResetError("a head of more headers than any server sends")
