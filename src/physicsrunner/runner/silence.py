"""
Whether a program has fallen silent: nothing that it writes has grown for as long as it may.

Promises: what lies below ``outputs/`` is looked at when it is time and not before; the time counts
from the newest change, so that a runner that was killed in between knows it too. Both the silence
and its end are reported, once each.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from physicsrunner.runner.context import Attempt

_AGAIN_S: Final = 5.0  # between two looks while it is silent


class Silence:
    """The silence of one attempt's program."""

    def __init__(self, attempt: Attempt, started: float) -> None:
        self._attempt = attempt
        self._since = started
        self._size = -1
        self._silent = False
        self._next: float | None = None
        if attempt.limits.silence_s:
            self._next = started + attempt.limits.silence_s

    def due(self) -> float | None:
        """Return when to look again, POSIX seconds; None: never."""
        return self._next

    def restart(self, now: float) -> None:
        """Count from *now*: the program was paused until then."""
        self._since = now
        if self._next is not None:
            self._next = now + (self._attempt.limits.silence_s or 0.0)

    def look(self, now: float) -> bool:
        """Look, if it is time; say whether the program is to be stopped for its silence."""
        limits = self._attempt.limits
        woken = self._silent and self._attempt.watched_for_more
        if self._next is None or not limits.silence_s or (now < self._next and not woken):
            return False
        self._measure(now)
        quiet = now - self._since
        if quiet < limits.silence_s:
            self._next = self._since + limits.silence_s
            self._tell(False)
            return False
        self._next = now + _AGAIN_S
        self._tell(True)
        return limits.stop_when_silent

    def _tell(self, silent: bool) -> None:
        if silent == self._silent:
            return
        self._silent = self._attempt.watched_for_more = silent
        if silent:
            limit = self._attempt.limits.silence_s
            self._attempt.log.warning("the program has written nothing for %g s", limit)
        else:
            self._attempt.log.info("the program writes again")
        self._attempt.reporter.silent(silent)

    def _measure(self, now: float) -> None:
        """Find the newest change; what has grown has changed now, whatever its time says."""
        size, newest = 0, 0.0
        for folder, _, names in os.walk(self._attempt.folder.outputs):
            for name in names:
                with suppress(OSError):  # gone again
                    found = Path(folder, name).lstat()
                    if stat.S_ISREG(found.st_mode):
                        size += found.st_size
                        newest = max(newest, found.st_mtime)
        if self._size not in (-1, size):
            newest = now
        self._size = size
        self._since = max(self._since, min(newest, now))
