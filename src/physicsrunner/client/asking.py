"""
Requests to one server, made again while it does not answer.

Promises: a request is tried again for `patience_s` in all, with growing waits and no sooner than
the server asks for. All that is sent by it may be sent twice: whoever calls it sees to that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from physicsrunner.client.body import Body, FileSlice
from physicsrunner.client.http import READ_S, Http
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire import rest

T = TypeVar("T")
#: Told of a transfer: bytes done, bytes in all, what is going on.
OnBytes = Callable[[int, int, str], None]

_SLOWEST_LINE: Final = 1e6  # bytes a second that an answer is waited for while a body goes up


class Asking:
    """
    One server, as one person sees it. Calls may come from several threads.

    Parameters
    ----------
    url
        The server's address.
    token
        A user's token (``physicsrunner login`` keeps one; the server's first start makes one).
    patience_s
        Seconds for which a request is tried again while nobody answers.
    meet_s
        The same until the server has answered for the first time; None: `patience_s`.
    """

    def __init__(
        self,
        url: str = f"http://127.0.0.1:{rest.DEFAULT_PORT}",
        token: str | None = None,
        *,
        patience_s: float = 20.0,
        meet_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.http = Http(url, token)
        self.patience_s = patience_s
        self._meet_s = patience_s if meet_s is None else meet_s
        self._met = False
        self.now = now
        self.sleep = sleep
        self._backoff = Backoff(cap=5.0)

    @property
    def url(self) -> str:
        """The server's base address."""
        return self.http.base

    @property
    def token(self) -> str | None:
        """The token that requests carry."""
        return self.http.token

    def close(self) -> None:
        """Release connections."""
        self.http.close()

    def answered(self, call: Callable[[], T]) -> T:
        """Make *call* until it is answered, for `patience_s` at most. It must be repeatable."""
        start, tries = self.now(), 0
        while True:
            try:
                answer = call()
                self._met = True
                return answer
            except ServerUnavailable as error:
                tries += 1
                patience = self.patience_s if self._met else self._meet_s
                asked = getattr(error, "retry_after", None)
                wait = self._backoff.wait(tries, random=random.random, retry_after=asked)
                if self.now() - start + wait > patience:
                    raise
                self.sleep(wait)

    def _value(self, method: str, path: str, **kwargs: Any) -> Any:
        return self.answered(lambda: self.http.value(method, path, **kwargs))

    def _upload(
        self, method: str, url: str, path: Path, on_bytes: OnBytes | None, params: dict[str, str]
    ) -> Any:
        size = path.stat().st_size

        def pieces() -> Iterator[Any]:
            at = 0
            while at < size:
                count = min(4 << 20, size - at)
                yield FileSlice(path, at, count)
                at += count
                if on_bytes:
                    on_bytes(at, size, f"sending {path.name}")

        return self._value(
            method,
            url,
            params=params,
            body=Body(pieces, size),
            headers={"Content-Type": "application/octet-stream"},
            read_s=READ_S + size / _SLOWEST_LINE,
        )
