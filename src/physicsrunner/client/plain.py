"""
Requests over plain HTTP, straight to their host: what most runners speak to their server.

Promises: as a `requests` session as far as `client.http` uses one, for a third of the time that it
takes to load (a short run begins a tenth of a second sooner). Connections are kept and reused; a
body that is cut is an error. TLS, proxies and redirections are not for it: `takes` says so.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

from physicsrunner.client.body import FileSlice

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

    def __init__(
        self, pool: PlainSession, connection: _Connection, response: http.client.HTTPResponse
    ) -> None:
        self.status_code = response.status
        self.headers = cast("Mapping[str, str]", response.headers)
        self._pool = pool
        self._connection: _Connection | None = connection
        self._response = response
        self._content: bytes | None = None

    @property
    def content(self) -> bytes:
        """The whole body."""
        if self._content is None:
            try:
                self._content = self._response.read()
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
        # A stream's pieces are passed on as they come: `read` would wait for *size* bytes of them.
        read = self._response.read1 if self._response.chunked else self._response.read
        while data := read(size):
            yield data
        if self._response.length:
            raise ConnectionResetError(f"{self._response.length} bytes of the body did not come")

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end costs it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        whole = self._response.isclosed() and not self._response.will_close
        self._response.close()
        if whole:
            self._pool.keep(connection)
        else:
            connection.close()

    def __enter__(self) -> PlainResponse:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlainSession:
    """Connections to hosts. Calls may come from several threads."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
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
        connection = self._connection(parts.hostname or "", parts.port or 80, timeout[0])
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout[1])
            with suppress(BrokenPipeError):  # refused in mid-body: the answer says why
                connection.request(method, target, data, _headers(method, data, headers))
            return PlainResponse(self, connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def keep(self, connection: _Connection) -> None:
        """Keep *connection* for a later request."""
        with self._lock:
            idle = self._idle.setdefault((connection.host, connection.port), [])
            if not self._closed and len(idle) < _IDLE:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all connections that are idle; others close when they are given back."""
        with self._lock:
            self._closed = True
            idle = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _connection(self, host: str, port: int, timeout: float) -> _Connection:
        while True:
            with self._lock:
                idle = self._idle.get((host, port))
                connection = idle.pop() if idle else None
            if connection is None:
                return _Connection(host, port, timeout=timeout)
            if not connection.is_dropped():
                return connection
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection that lets the kernel send files."""

    def send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            data.send_to(self.sock)
        else:
            super().send(data)

    def is_dropped(self) -> bool:
        """Say whether the other side has closed it meanwhile."""
        if self.sock is None:
            return True
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(0))


def _headers(method: str, body: Any, given: Mapping[str, str]) -> dict[str, str]:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "physicsrunner"}
    headers.update(given)
    if body is None:
        if method not in ("GET", "HEAD"):
            headers["Content-Length"] = "0"
    elif hasattr(body, "__len__"):
        headers["Content-Length"] = str(len(body))
    return headers
