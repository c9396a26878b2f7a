"""
Why and when: the request to stop an attempt, and its clock.

Promises: the first reason to stop counts; time and chance come from the caller. Any thread may ask.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
LEASE_LOST: Final = "lease_lost"


class StopRequest:
    """Why the program is to stop, once somebody has asked. The first reason counts."""

    def __init__(self, outside: threading.Event | None = None) -> None:
        self._outside = outside
        self._guard = threading.Lock()
        self._reason: str | None = None

    def ask(self, reason: str) -> None:
        """Ask for the stop."""
        with self._guard:
            if self._reason is None:
                self._reason = reason

    @property
    def reason(self) -> str | None:
        """Why, or None when nobody has asked."""
        if self._reason is None and self._outside is not None and self._outside.is_set():
            self.ask(CANCELLED)
        return self._reason

    def asked(self) -> bool:
        """Say whether anybody has asked."""
        return self.reason is not None


@dataclass(frozen=True)
class Clock:
    """Time and chance, as arguments."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]
