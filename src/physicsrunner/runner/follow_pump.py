"""
One thread for the followers of all attempts of a process.

Promises: `touch` returns at once; what is touched is followed soon, and while there is much of it
the pauses grow, so that following takes a bounded share of one core: each file is then read less
often and in larger pieces. A follower that wants to look again later (a line without end, a book
that is not written) is called again then, and never otherwise.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol

_SHARE: Final = 4.0  #: pauses for so many times as long as a round took
_LONGEST_S: Final = 5.0
_SHORT_S: Final = 0.005  #: a round this short needs no pause


class Follows(Protocol):
    """What is pumped: a `follow.Follower`."""

    def touch(self, paths: Collection[Path]) -> None:
        """Look at *paths* now."""
        ...

    def due(self) -> float | None:
        """Return after how many seconds it wants to look again; None: not before a touch."""
        ...


class Pump:
    """Calls followers. Any thread may touch; one thread works."""

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, log: logging.Logger | None = None
    ) -> None:
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._wake = threading.Condition()
        self._touched: dict[Follows, set[Path]] = {}
        self._later: list[tuple[float, int, Follows]] = []
        self._dues: dict[Follows, float] = {}
        self._count = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self.least_s = 0.0  #: the rhythm that the server asks for

    def touch(self, follower: Follows, paths: Collection[Path]) -> None:
        """Have *follower* look at *paths*."""
        with self._wake:
            if self._closed:
                return
            idle = not self._touched
            self._touched.setdefault(follower, set()).update(paths)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="follow", daemon=True)
                self._thread.start()
            if idle:
                self._wake.notify()

    def forget(self, follower: Follows) -> None:
        """Call *follower* no more (a call may be under way)."""
        with self._wake:
            self._touched.pop(follower, None)
            self._dues.pop(follower, None)

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._closed = True
            self._touched.clear()
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        while True:
            turn = self._turn()
            if turn is None:
                return
            began = self._now()
            for follower, paths in turn.items():
                self._work(follower, paths)
            took = self._now() - began
            pause = min(_LONGEST_S, max(self.least_s, _SHARE * took if took > _SHORT_S else 0.0))
            with self._wake:
                self._wake.wait_for(lambda: self._closed, pause)

    def _work(self, follower: Follows, paths: Collection[Path]) -> None:
        try:
            follower.touch(paths)
            due = follower.due()
        except Exception:
            # Following is a convenience for people: its fault must never end the run.
            self._log.exception("following failed; it goes on")
            return
        with self._wake:
            self._dues.pop(follower, None)
            if due is not None and not self._closed:
                when = self._dues[follower] = self._now() + due
                self._count += 1
                heapq.heappush(self._later, (when, self._count, follower))

    def _turn(self) -> dict[Follows, set[Path]] | None:
        with self._wake:
            while not self._closed:
                now = self._now()
                while self._later and self._later[0][0] <= now:
                    when, _, follower = heapq.heappop(self._later)
                    if self._dues.get(follower) == when:  # else touched or forgotten meanwhile
                        self._touched.setdefault(follower, set())
                if self._touched:
                    turn, self._touched = self._touched, {}
                    return turn
                self._wake.wait(self._later[0][0] - now if self._later else None)
            return None
