"""
What a solver's log says of the time that remains.

Promises: state.txt's own progress always wins; where main.py says nothing, the solver's is shown.
What changes with every line is told at most once a second. Time is an argument.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from physicsrunner.core.points import Point
from physicsrunner.core.progress import Status
from physicsrunner.core.series import Reader

_EVERY_S: Final = 1.0
_FIRST_S: Final = 1.0  # an estimate from less time is a guess


class Outlook:
    """The progress and the remaining time of the program that moved last."""

    def __init__(self) -> None:
        self._path = ""
        self._start: tuple[float, float] | None = None  # time, fraction
        self._fraction: float | None = None
        self._eta_s: float | None = None
        self._place: tuple[float, str] | None = None  # value and name of what is measured
        self._shown: tuple[float | None, float | None, str] | None = None
        self._shown_at = float("-inf")
        self._told_at = float("-inf")
        self._told: tuple[float, float | None, tuple[float, str]] | None = None

    def learn(self, path: str, reader: Reader, now: float) -> None:
        """Take what *reader* of the file *path* has found until *now*."""
        fraction, named = reader.fraction, reader.eta_s
        if fraction is None:
            if named is not None:
                self._eta_s = named
            return
        if path != self._path or (self._fraction is not None and fraction < self._fraction):
            self._path, self._start = path, None
        if self._start is None:
            self._start = (now, fraction)
        self._fraction, self._place = fraction, reader.progress_point
        began, first = self._start
        if named is not None:
            self._eta_s = named
        elif fraction >= 1.0:
            self._eta_s = 0.0
        elif fraction > first and now - began >= _FIRST_S:
            self._eta_s = (now - began) * (1.0 - fraction) / (fraction - first)

    def status(self, said: Status | None, now: float, *, force: bool) -> Status | None:
        """Return the status that main.py *said*, with what the solver adds."""
        known = self._fraction is not None or self._eta_s is not None
        if known and (force or self._shown is None or now - self._shown_at >= _EVERY_S):
            percent = None if self._fraction is None else round(100.0 * self._fraction, 1)
            eta = None if self._eta_s is None else round(self._eta_s, 1)
            self._shown, self._shown_at = (percent, eta, self._label()), now
        if self._shown is None:
            return said
        percent, eta, label = self._shown
        if said is None:
            return Status(percent, label, eta_s=eta)
        progress = percent if said.progress is None else said.progress
        return replace(said, progress=progress, eta_s=eta)

    def points(self, now: float, *, force: bool) -> list[Point]:
        """Return points of the series ``progress`` and ``eta``, at most once a second."""
        if self._fraction is None or self._place is None:
            return []
        told = (self._fraction, self._eta_s, self._place)
        if told == self._told or (now - self._told_at < _EVERY_S and not force):
            return []
        self._told, self._told_at = told, now
        x, x_name = self._place
        points = [Point("progress", x, 100.0 * self._fraction, x_name, "%")]
        if self._eta_s is not None:
            points.append(Point("eta", x, self._eta_s, x_name, "s"))
        return points

    def _label(self) -> str:
        if self._place is None:
            return ""
        value, name = self._place
        return f"{name} {value:g}"
