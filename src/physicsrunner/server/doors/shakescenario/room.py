"""
The memory that all connections of one door may take together for what they sent.

Promises: over the limit nobody is cut off; they are read no further until there is room again. One
may always go on, the one that has waited longest, or nobody's frame would ever come to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter

LIMIT: Final = 256 * 1024 * 1024  #: bytes of frames that are not whole, and of requests that wait
READERS: Final = 4  #: large requests that are read at once

GoOn = Callable[[], None]  # of a connection, which is known here by it


class Room:
    """Made, and called, on the event loop of the server."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.readers = CapacityLimiter(READERS)
        self._limit = limit
        self._held: dict[GoOn, int] = {}
        self._total = 0
        self._paused: dict[GoOn, None] = {}

    def hold(self, who: GoOn, size: int) -> None:
        """Note that *who* has *size* bytes here now; with fewer than before it is the last."""
        before = self._held.get(who, 0)
        if size == before:
            return
        self._total += size - before
        if size < before:
            del self._held[who]
        if size:
            self._held[who] = size
        if size < before and self._paused:
            paused, self._paused = self._paused, {}
            for go_on in paused:
                asyncio.get_running_loop().call_soon(go_on)

    def admits(self, who: GoOn) -> bool:
        """Say whether *who* may be read; who may not is called when that may have changed."""
        if self._total <= self._limit or next(iter(self._held)) == who:
            return True
        self._paused[who] = None
        return False
