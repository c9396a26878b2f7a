"""
A circuit breaker: what has not answered for a while is left alone for a while.

Promises: after *limit* failures in a row nobody tries for *wait_s* seconds, and everybody is told
at once; then one caller may try while the others are still refused. An answer, also one that says
no, closes it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from physicsrunner.errors import ServerUnavailable

LONGEST_S: Final = 60.0  #: that somebody is left alone because they asked for it
#: Makes the error of who is refused, from what failed last and the seconds to wait.
Refusal = Callable[[str, float], ServerUnavailable]


class Circuit:
    """Stands before something that may be away. Thread-safe; *now* must not jump."""

    def __init__(
        self, refusal: Refusal, *, limit: int, wait_s: float, now: Callable[[], float]
    ) -> None:
        self._refusal = refusal
        self._limit = limit
        self._wait_s = wait_s
        self._now = now
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._trying = False
        self._last = ""

    @contextmanager
    def closed(self) -> Iterator[None]:
        """
        Hold while the other side is asked; a `ServerUnavailable` inside counts as a failure.

        Raises
        ------
        ServerUnavailable
            At once, as *refusal* makes it, while the circuit is open.
        """
        self._enter()
        try:
            yield
        except ServerUnavailable as error:
            self._failed(error)
            raise
        except BaseException:
            self._answered()
            raise
        self._answered()

    def _enter(self) -> None:
        with self._lock:
            if self._failures < self._limit:
                return
            left = self._until - self._now()
            if left > 0 or self._trying:
                raise self._refusal(self._last, max(left, 1.0))
            self._trying = True

    def _failed(self, error: ServerUnavailable) -> None:
        with self._lock:
            self._failures += 1
            self._trying = False
            self._last = str(error)
            if self._failures >= self._limit:
                asked = min(error.retry_after or 0.0, LONGEST_S)
                self._until = self._now() + max(self._wait_s, asked)

    def _answered(self) -> None:
        with self._lock:
            self._failures = 0
            self._trying = False
