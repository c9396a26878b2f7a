"""
Series in files that are made for it: CSV files, and series.jsonl of `physicsrunner.solver`.

Promises: the same face as `core.series.Reader` (feed, finish, wants, state, restore). A CSV
file's first column is x, each other column a series ``FILE/COLUMN``; cells that are no numbers
are left out. A line of series.jsonl that is not a point is left out. Pure.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from physicsrunner.core.points import Limiter, Point, number, split_unit

_MOST_COLUMNS: Final = 64
_MOST_SERIES: Final = 256
_MOST_POINTS: Final = 10_000
_NAME_LIMIT: Final = 120


class CsvReader:
    """
    Reads the lines of one CSV file.

    Parameters
    ----------
    name
        The first part of its series' names: the file's name without ``.csv``.
    """

    eta_s: float | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._separator = ","
        self._columns: list[str] | None = None
        self._limiter = Limiter(_MOST_COLUMNS, _MOST_POINTS)

    def wants(self, text: str) -> bool:
        """Tell whether a piece of whole lines can matter."""
        return bool(text)

    def feed(self, line: str) -> list[Point]:
        """Take one line; return its points."""
        cells = self._cells(line)
        if not any(cells):
            return []
        values = [number(cell) for cell in cells]
        if self._columns is None:
            if values[0] is None:
                self._columns = cells
                return []
            # Without a heading the columns have their numbers.
            self._columns = ["x", *(str(n) for n in range(1, len(cells)))]
        if values[0] is None or len(cells) < 2:
            return []
        x_name = split_unit(self._columns[0])[0]
        found = []
        for heading, y in zip(self._columns[1:], values[1:], strict=False):
            name, unit = split_unit(heading)
            series = f"{self._name}/{name}"[:_NAME_LIMIT]
            if y is not None and name and self._limiter.admit(series):
                found.append(Point(series, values[0], y, x_name, unit))
        return found

    def _cells(self, line: str) -> list[str]:
        line = line.strip("\ufeff \0")
        if self._columns is None:
            line = line.lstrip("#% ")
            self._separator = next((mark for mark in ",;\t" if mark in line), ",")
        try:
            cells = next(csv.reader([line], delimiter=self._separator), [])
        except csv.Error:
            return []
        return [cell.strip() for cell in cells]

    def finish(self) -> list[Point]:
        """No line follows; nothing is held back."""
        return []

    def state(self) -> dict[str, Any]:
        """Return what a reader after a restart needs, as JSON values."""
        return {
            "separator": self._separator,
            "columns": self._columns,
            "seen": self._limiter.seen,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the reader that gave *state* was."""
        self._separator = state["separator"]
        self._columns = state["columns"]
        self._limiter.seen = state["seen"]


class PointsReader:
    """Reads the lines of outputs/series.jsonl, which `physicsrunner.solver.series` writes."""

    eta_s: float | None = None

    def __init__(self) -> None:
        self._limiter = Limiter(_MOST_SERIES, _MOST_POINTS)

    def wants(self, text: str) -> bool:
        """Tell whether a piece of whole lines can matter."""
        return "{" in text

    def feed(self, line: str) -> list[Point]:
        """Take one line; return its point, if it is one."""
        try:
            data = json.loads(line)
            name, x, y = data["series"], _axis(data, "x"), _axis(data, "y")
            x_name, unit = str(data.get("x_name", "iteration")), data.get("unit")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return []
        if not isinstance(name, str) or not name or not self._limiter.admit(name[:_NAME_LIMIT]):
            return []
        return [Point(name[:_NAME_LIMIT], x, y, x_name, None if unit is None else str(unit))]

    def finish(self) -> list[Point]:
        """No line follows; nothing is held back."""
        return []

    def state(self) -> dict[str, Any]:
        """Return what a reader after a restart needs, as JSON values."""
        return {"seen": self._limiter.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the reader that gave *state* was."""
        self._limiter.seen = state["seen"]


def _axis(data: Mapping[str, Any], axis: str) -> float:
    value = data[axis]
    if value is None:
        return float(data.get(f"{axis}_text", math.nan))
    return float(value)
