"""
Points of series, and what keeps them few.

Promises: a point is always valid JSON on the wire; `Limiter` bounds how many series there are and
how many points each has, by counting alone, so that a restart gives the same. Pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from json.encoder import encode_basestring as quoted
from typing import Final

_UNIT: Final = re.compile(r"(?P<name>.{0,200}[^\s\[]) {0,9}\[(?P<unit>[^\[\]]{1,20})\]")


@dataclass(frozen=True)
class Point:
    """One point of one series."""

    series: str
    x: float
    y: float  #: may be NaN or infinite: a solver that diverges says so
    x_name: str = "iteration"
    unit: str | None = None

    def to_json(self, time: float) -> str:
        """Return the point as one line of series.jsonl, seen at *time* (POSIX seconds)."""
        # Written by hand: a log of millions of residuals spends most of its time here.
        parts = [f'{{"series":{quoted(self.series)}', _axis("x", self.x), _axis("y", self.y)]
        parts.append(f'"x_name":{quoted(self.x_name)}')
        if self.unit is not None:
            parts.append(f'"unit":{quoted(self.unit)}')
        parts.append(f'"t":{round(time, 3)}}}')
        return ",".join(parts)


def _axis(name: str, value: float) -> str:
    if math.isfinite(value):
        return f'"{name}":{float(value)!r}'
    return f'"{name}":null,"{name}_text":"{value}"'  # JSON has no such numbers


def number(text: str) -> float | None:
    """Return the number that *text* is (Fortran's ``1.0D-3`` too), or None."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        return None


def split_unit(name: str) -> tuple[str, str | None]:
    """Return name and unit of ``T [K]``; the unit is None when there is none."""
    match = _UNIT.fullmatch(name.strip())
    return (match["name"], match["unit"]) if match else (name.strip(), None)


class Limiter:
    """Bounds how many series there are, and how many points each has."""

    def __init__(self, max_series: int, max_points: int) -> None:
        self.max_series = max_series
        self.max_points = max_points
        self.seen: dict[str, list[int]] = {}  #: name -> points seen, kept, stride

    def admit(self, name: str) -> bool:
        """Count a point of *name*; tell whether it is to be kept."""
        entry = self.seen.get(name)
        if entry is None:
            if len(self.seen) >= self.max_series:
                return False
            entry = self.seen[name] = [0, 0, 1]
        seen, kept, stride = entry
        entry[0] = seen + 1
        if seen % stride:
            return False
        entry[1] = kept + 1
        if entry[1] >= self.max_points:
            entry[1:] = [0, stride * 2]
        return True
