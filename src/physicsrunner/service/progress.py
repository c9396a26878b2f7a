"""
Progress on its way to the database: at most once a second a run, and less often of very many.

Promises: the latest progress that was reported is what `overlay` shows, also before it is written;
what waits is written by the next report or by the clock loop. Of more than `ROWS` runs about that
many are written each second, by the clock loop alone and so in one transaction. It is lost only
with the process, and the runner's next report brings it again. Viewers get every report at once:
that is the feed's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from physicsrunner.core.records import changed
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD

EVERY_S: Final = 1.0
ROWS: Final = 200  #: written in a second
LONGEST_S: Final = 10.0  #: that progress waits to be written

R = TypeVar("R", bound=RunSummary)


class ProgressBook:
    """What was reported and not yet written, by run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, dict[str, Any]]] = {}
        self._written: dict[str, float] = {}

    def put(self, run: str, attempt: int, fields: Mapping[str, Any], now: float) -> bool:
        """Keep *fields*; say whether it is time to write them."""
        with self._lock:
            before = self._waiting.get(run)
            known = before[1] if before is not None and before[0] == attempt else {}
            self._waiting[run] = (attempt, {**known, **fields})
            few = len(self._written) <= ROWS
            return few and now - self._written.get(run, float("-inf")) >= EVERY_S

    def take(self, run: RunSummary, now: float) -> dict[str, Any]:
        """Return the fields to write to *run* now; they no longer wait."""
        with self._lock:
            attempt, fields = self._waiting.pop(run.id, (0, {}))
            if run.status in HELD:
                self._written[run.id] = now
            else:
                self._written.pop(run.id, None)
        return fields if attempt == run.attempt and run.status in HELD else {}

    def due(self, now: float) -> list[str]:
        """Return the runs of which something waits that should be written."""
        with self._lock:
            last, every = self._written, self._every()
            return [run for run in self._waiting if now - last.get(run, float("-inf")) >= every]

    def forget(self, run: str) -> None:
        """Drop what is known of a run that has ended."""
        with self._lock:
            self._waiting.pop(run, None)
            self._written.pop(run, None)

    def overlay(self, run: R) -> R:
        """Return *run* with the progress that was last reported."""
        with self._lock:
            attempt, fields = self._waiting.get(run.id, (0, {}))
        return changed(run, **fields) if attempt == run.attempt and run.status in HELD else run

    def _every(self) -> float:
        """Return how long the progress of a run waits, for as many as there are."""
        return min(LONGEST_S, max(EVERY_S, len(self._written) / ROWS))
