"""
Requests over plain HTTP, straight to their host: what most runners speak to their server.

Promises: as a `requests` session as far as `client.http` uses one, for a third of the time that it
takes to load (a short run begins a tenth of a second sooner). Connections are kept and reused; a
body that is cut is an error. TLS, proxies and redirections are not for it: `takes` says so.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from physicsrunner.client.line import Answer, Line

_IDLE: Final = 8  # connections that are kept for one host
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"
_PROXIES: Final = ("http_proxy", "all_proxy")
#: Answers that send a request elsewhere.
ELSEWHERE: Final = frozenset({301, 302, 303, 307, 308})


def takes(url: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether *url* can be asked here: plain HTTP, and no proxy in between."""
    return url.startswith("http://") and not any(
        value for name, value in environment.items() if name.lower() in _PROXIES
    )


class PlainResponse:
    """An answer; its body is read when it is wanted."""

    def __init__(self, pool: PlainSession, line: Line, answer: Answer) -> None:
        self.status_code = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self._pool = pool
        self._line: Line | None = line
        self._answer = answer
        self._content: bytes | None = None

    @property
    def content(self) -> bytes:
        """The whole body."""
        if self._content is None:
            try:
                self._content = self._answer.read()
            finally:
                self.close()
        return self._content

    def json(self) -> Any:
        """Return the body as a JSON value, or raise ValueError."""
        return json.loads(self.content)

    def iter_content(self, size: int) -> Iterator[bytes]:
        """Iterate over the body in pieces of at most *size* bytes."""
        if self._content is not None:
            yield self._content
            return
        yield from self._answer.pieces(size)

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end costs it."""
        line, self._line = self._line, None
        if line is None:
            return
        if self._answer.ended and not self._answer.will_close:
            self._pool.keep(line)
        else:
            line.close()

    def __enter__(self) -> PlainResponse:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlainSession:
    """Connections to hosts. Calls may come from several threads."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Line]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        headers: Mapping[str, str],
        timeout: tuple[float, float],
    ) -> PlainResponse:
        """Make one request; return its answer, whose body is still to be read."""
        parts = urlsplit(url)
        given = urlencode({k: v for k, v in (params or {}).items() if v is not None}, doseq=True)
        query = "&".join(part for part in (parts.query, given) if part)
        target = quote(parts.path or "/", safe=_SAFE) + (
            f"?{quote(query, safe=_SAFE)}" if query else ""
        )
        line = self._line(parts.hostname or "", parts.port or 80, timeout[0])
        try:
            with suppress(BrokenPipeError):  # refused in mid-body: the answer says why
                line.ask(method, target, _headers(method, data, headers), data, timeout[1])
            return PlainResponse(self, line, line.answer(method))
        except BaseException:
            line.close()
            raise

    def keep(self, line: Line) -> None:
        """Keep *line* for a later request."""
        with self._lock:
            idle = self._idle.setdefault(line.place, [])
            if not self._closed and len(idle) < _IDLE:
                idle.append(line)
                return
        line.close()

    def close(self) -> None:
        """Close all connections that are idle; others close when they are given back."""
        with self._lock:
            self._closed = True
            idle = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
        for line in idle:
            line.close()

    def _line(self, host: str, port: int, timeout: float) -> Line:
        while True:
            with self._lock:
                idle = self._idle.get((host, port))
                line = idle.pop() if idle else None
            if line is None:
                return Line(host, port, timeout)
            if not line.is_dropped():
                return line
            line.close()


def _headers(method: str, body: Any, given: Mapping[str, str]) -> dict[str, str]:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "physicsrunner"}
    headers.update(given)
    if body is None:
        if method not in ("GET", "HEAD"):
            headers["Content-Length"] = "0"
    elif hasattr(body, "__len__"):
        headers["Content-Length"] = str(len(body))
    return headers
