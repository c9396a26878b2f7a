"""
When the server was last heard of, also across a kill of the agent.

Promises: reading and writing the note never fails; a note that is missing means "just now". The
clock goes on while the machine sleeps or the agent is stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Where there is none that counts sleep, one that does not.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
LOST_S: Final = 360.0  #: until the server has said it


def boot_clock() -> float:
    """Return seconds that also count while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Contact:
    """The last answer of the server, and how long it may be away."""

    def __init__(
        self, note: Path, *, now: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        self._note = note
        self._now = now
        self.lost_s, age = _read(note, wall())
        self._last = now() - age
        self.answering = True  #: the last question was answered

    def heard(self, asked: float, lost_s: float) -> bool:
        """Note an answer to a question of time *asked*; say whether it ended a silence."""
        back, self.answering = not self.answering, True
        # The server counts from when it got the question: not earlier than it was asked.
        self._last = max(self._last, asked)
        with suppress(OSError):
            if lost_s != self.lost_s or not self._note.exists():
                self.lost_s = lost_s
                self._note.write_text(json.dumps({"lost_s": lost_s}), encoding="utf-8")
            else:
                os.utime(self._note)
        return back

    def silent_s(self) -> float:
        """Note that nobody answered; return for how long."""
        self.answering = False
        return self._now() - self._last

    @property
    def lost(self) -> bool:
        """Whether the server counts on this agent no more."""
        return self._now() - self._last > self.lost_s


def _read(note: Path, wall: float) -> tuple[float, float]:
    try:
        lost_s = float(json.loads(note.read_text("utf-8"))["lost_s"])
        return lost_s, max(0.0, wall - note.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return LOST_S, 0.0
