"""
Why and when: the request to stop an attempt, and its clock.

Promises: the first reason to stop counts, and a stop comes before a pause; time and chance come
from the caller. Any thread may ask, and whoever waits for the program is woken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
LEASE_LOST: Final = "lease_lost"
SILENT: Final = "silent"
HAND_BACK: Final = "handed_back"


class StopRequest:
    """
    Why the program is to stop, once somebody has asked, and whether it is to pause.

    Parameters
    ----------
    outside
        A caller's own wish to cancel. Nobody is woken by it: whoever waits has to look.
    """

    def __init__(self, outside: threading.Event | None = None) -> None:
        self._outside = outside
        self._guard = threading.Lock()
        self._reason: str | None = None
        self._pause = False
        self._news = threading.Event()

    @property
    def must_look(self) -> bool:
        """Whether a wish may come without waking anybody."""
        return self._outside is not None

    def ask(self, reason: str) -> None:
        """Ask for the stop."""
        with self._guard:
            if self._reason is None:
                self._reason = reason
        self._news.set()

    def pause(self, wanted: bool) -> None:
        """Ask for the program to be paused, or to go on."""
        if self._pause != wanted:
            self._pause = wanted
            self._news.set()

    @property
    def pausing(self) -> bool:
        """Whether the program is to be paused now."""
        return self._pause and not self.asked()

    def wake(self) -> None:
        """Wake whoever waits: there is something to look at."""
        self._news.set()

    def wait(self, seconds: float | None) -> None:
        """Wait until there is something to look at, *seconds* at most."""
        if self._news.wait(seconds):
            self._news.clear()

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
