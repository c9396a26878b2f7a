"""
Series: numbers over iterations or time, found in the lines of a program's log.

Promises:

- `Reader.feed` takes one line and returns the points that it completes; the same lines give the
  same points, and `Reader.state` carries a reader over a restart without loss or repeat.
- It never floods: a reader knows at most ``max_series`` names; a series longer than
  ``max_points`` is thinned evenly (every 2nd point, then every 4th, ...).
- Lines are cut to 2,000 characters, so that no pattern of ours takes long on one.

Pure: no files, no clock. Where the rules come from: `core.series_format`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from physicsrunner.core.points import Limiter, Point, number, split_unit
from physicsrunner.core.series_rules import (
    NUMBER,
    BlockRule,
    LineRule,
    Lookup,
    PairsRule,
    RuleSet,
    TableRule,
    Value,
)

LONGEST_LINE: Final = 2_000  # characters
_NAME_LIMIT: Final = 120  # characters
_VALUE: Final = re.compile(rf"[=:] {{0,20}}(?P<value>{NUMBER})(?![\w:/%-]|\.\d| %)")
_BETWEEN: Final = re.compile(r"[,;|\t:=(){}\"']|  ")
_LETTER: Final = re.compile(r"[A-Za-z_]")
_BRACKET: Final = re.compile(r"\([^()]{0,40}\)$")
_COUNT: Final = re.compile(r"[ #](\d+)\b")
_MOST_WORDS: Final = 4


def _pairs(line: str) -> list[tuple[str, float | None]]:
    found: list[tuple[str, float | None]] = []
    end = 0
    for match in _VALUE.finditer(line):
        before, end = line[end : match.start()].rstrip(" \"'"), match.end()
        bracket = _BRACKET.search(before)  # "force (max) = 3": a bracket belongs to the name
        plain = before[: bracket.start()] if bracket else before
        words = _BETWEEN.split(plain)[-1].split(" ")[-_MOST_WORDS:]
        # "at step 5 residual = 3": a name of its own for each step would flood.
        start = max((n + 1 for n, word in enumerate(words) if word[:1].isdigit()), default=0)
        name = " ".join(words[start:]).strip()
        if bracket and name:
            name = f"{name} {bracket[0]}" if plain.endswith(" ") else name + bracket[0]
        if _LETTER.match(name):
            found.append((name, number(match["value"])))
    return found


def _counted(line: str, names: tuple[str, ...]) -> dict[str, float | None]:
    """Find "iter 5" where it names no pair: "iter 5: residual = 1e-3"."""
    for match in _COUNT.finditer(line):
        before = line[: match.start()].rstrip(" #").lower()
        if before.endswith(names):
            name = next(name for name in names if before.endswith(name))
            if not before[: -len(name)][-1:].isalnum():
                return {name: number(match[1])}
    return {}


def _bracketed(name: str, rule: BlockRule) -> tuple[str, str | None]:
    plain, _, unit = name.removesuffix(")").rpartition(" (")
    if name.endswith(")") and unit in rule.bracketed:
        return plain, unit
    return name, rule.units.get(name, rule.unit) or None


class Reader:
    """
    Reads one file's lines by one rule set.

    Parameters
    ----------
    rules
        What to look for.
    texts
        Text variables for lookups: ``dir`` and ``stem`` of the file.
    """

    def __init__(self, rules: RuleSet, texts: Mapping[str, str] | None = None) -> None:
        self.rules = rules
        self.eta_s: float | None = None
        self.stopped = False
        self._texts = dict(texts or {})
        self._variables: dict[str, float] = {}
        self._changes: dict[str, float] = {}
        self._limiter = Limiter(rules.max_series, rules.max_points)
        self._latest: dict[str, float] = {}  # keep: first -> x of the point that was taken
        self._pending: dict[str, Point] = {}  # keep: last -> the point that may be replaced
        self._single: dict[str, Point] = {}  # pairs: seen once; one point is not a series
        self._counts: dict[str, int] = {}
        self._table: tuple[int, list[str], int] | None = None  # rule, columns, rows seen
        self._block: tuple[int, list[str] | None] | None = None  # rule, names of the next values
        self._looked_up: list[int] = []
        self._literals = rules.literals
        self._steps: list[tuple[int, Callable[[int, Any, str], list[Point]], Any]] = [
            (n, self._STEPS[type(rule)].__get__(self), rule) for n, rule in enumerate(rules.rules)
        ]

    def feed(self, line: str) -> list[Point]:
        """Take one line without its end; return the points that it completes."""
        if self.stopped:
            return []
        line = line[:LONGEST_LINE]
        found: list[Point] = []
        for n, step, rule in self._steps:
            found += step(n, rule, line)
        return found

    def wants(self, text: str) -> bool:
        """Tell whether a piece of whole lines can matter; quick, for long logs of anything."""
        if self.stopped:
            return False
        if self._literals is None or self._table is not None or self._block is not None:
            return True
        return any(literal in text for literal in self._literals)

    def finish(self) -> list[Point]:
        """No line follows: return the points that were held back."""
        return self._flush()

    @property
    def fraction(self) -> float | None:
        """How far the program is, 0 to 1, where its log tells."""
        spec = self.rules.progress
        if spec is None or spec.value not in self._variables:
            return None
        start = self._variables.get(spec.start or "", 0.0)
        end = self._variables.get(spec.end or "")
        if spec.length is not None and spec.length in self._variables:
            end = start + self._variables[spec.length]
        if end is None or not end > start or not math.isfinite(end - start):
            return None
        return min(1.0, max(0.0, (self._variables[spec.value] - start) / (end - start)))

    @property
    def progress_point(self) -> tuple[float, str] | None:
        """The value that progress is measured in, and its name."""
        spec = self.rules.progress
        if spec is None or spec.value not in self._variables:
            return None
        return self._variables[spec.value], spec.value.replace("_", " ")

    def lookups(self) -> list[tuple[int, str]]:
        """Return (index, path) of the files that can be looked up now and were not yet."""
        wanted = []
        for index, lookup in enumerate(self.rules.lookups):
            if index not in self._looked_up:
                try:
                    wanted.append((index, lookup.file.format(**self._texts)))
                except (KeyError, IndexError, ValueError):
                    continue
        return wanted

    def looked_up(self, index: int, text: str | None) -> None:
        """Take the text of the file of lookup *index*; None when there is none."""
        self._looked_up.append(index)
        if text is None:
            return
        lookup: Lookup = self.rules.lookups[index]
        for match in lookup.pattern.finditer(text):
            for name, raw in match.groupdict().items():
                value = number(raw) if raw else None
                if value is not None:
                    before = self._variables.get(name, 0.0) if lookup.add else 0.0
                    self._variables[name] = before + value

    # -- restart ---------------------------------------------------------------------------------

    _KEPT = ("_texts", "_variables", "_changes", "_latest", "_counts", "_looked_up", "stopped")

    def state(self) -> dict[str, Any]:
        """Return what a reader after a restart needs, as JSON values."""
        return {
            **{name.lstrip("_"): getattr(self, name) for name in self._KEPT},
            "seen": self._limiter.seen,
            "pending": [asdict(point) for point in self._pending.values()],
            "single": {name: asdict(point) for name, point in self._single.items()},
            "table": self._table,
            "block": self._block,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the reader that gave *state* was."""
        for name in self._KEPT:
            setattr(self, name, state[name.lstrip("_")])
        self._limiter.seen = state["seen"]
        self._pending = {point["series"]: Point(**point) for point in state["pending"]}
        self._single = {name: Point(**point) for name, point in state["single"].items()}
        self._table = tuple(state["table"]) if state["table"] else None
        self._block = tuple(state["block"]) if state["block"] else None

    # -- rules -----------------------------------------------------------------------------------

    def _line(self, _: int, rule: LineRule, line: str) -> list[Point]:
        if rule.contains and rule.contains not in line:
            return []
        found: list[Point] = []
        matches = rule.pattern.finditer(line) if rule.repeat else [rule.pattern.search(line)]
        for match in matches:
            if match is not None:
                found += self._matched(rule, match.groupdict(default=""))
        return found

    def _matched(self, rule: LineRule, groups: dict[str, str]) -> list[Point]:
        found = []
        for name in rule.texts:
            self._texts[name] = groups[name]
        for name, group in rule.variables.items():
            found += self._set(name, number(groups[group]))
        if rule.eta:
            self.eta_s = number(groups[rule.eta])
        self.stopped = self.stopped or rule.stop
        if rule.series:
            self._counts["count"] = self._counts.get("count", 0) + 1
        for template, spec in rule.series.items():
            name = template.format(**groups) if "{" in template else template
            y = number(groups[spec.name]) if spec.name in groups else self._value(spec.name)
            if y is not None:
                found += self._emit(name, y, spec, rule.x or self.rules.x, rule.keep)
        return found

    def _table_line(self, n: int, rule: TableRule, line: str) -> list[Point]:
        if rule.contains in line and rule.header.search(line):
            self._table = (n, list(rule.columns) or line.split(), 0)
            return []
        if self._table is None or self._table[0] != n:
            return []
        if rule.end is not None and rule.end.search(line):
            self._table = None
            return []
        _, columns, rows = self._table
        cells = line.split()
        values = [number(cell) for cell in cells]
        if len(cells) != len(columns) or None in values:
            return []
        row = {
            name: value for name, value in zip(columns, values, strict=True) if value is not None
        }
        self._table = (n, columns, rows + 1)
        return self._row(rule, row, first=rows == 0)

    def _row(self, rule: TableRule, row: dict[str, float], *, first: bool) -> list[Point]:
        found = []
        for names in (rule.first, rule.variables) if first else (rule.variables,):
            for name, column in names.items():
                found += self._set(name, row.get(column))
        count = self._counts["row"] = self._counts.get("row", 0) + 1
        x = float(count) if rule.x == "row" else row.get(rule.x or "")
        if x is None:
            return found
        series = rule.series
        if series is None:
            series = {rule.prefix + name: Value(name) for name in row if name != rule.x}
        x_name = rule.x_name or (rule.x or "").replace("_", " ")
        for name, spec in series.items():
            if spec.name in row:
                found += self._admit(Point(name, x, row[spec.name], x_name, spec.unit))
        return found

    def _block_line(self, n: int, rule: BlockRule, line: str) -> list[Point]:
        if rule.contains in line and rule.start.search(line):
            self._block = (n, None)
            return []
        if self._block is None or self._block[0] != n:
            return []
        cells = [line[i : i + rule.width].strip() for i in range(0, len(line.rstrip()), rule.width)]
        names = self._block[1]
        if not any(cells):
            self._block = None
            return []
        if names is None:
            self._block = (n, cells)
            return []
        self._block = (n, None)
        found = []
        for name, cell in zip(names, cells, strict=False):
            y, (plain, unit) = number(cell), _bracketed(name, rule)
            if y is not None and plain:
                found += self._emit(rule.prefix + plain, y, Value(name, unit), self.rules.x, "all")
        return found

    def _pairs_line(self, _: int, rule: PairsRule, line: str) -> list[Point]:
        if "=" not in line and ":" not in line:
            return []
        pairs = _pairs(line)
        named = {name.lower(): value for name, value in pairs}
        if named.keys().isdisjoint(rule.x):
            named.update(_counted(line, rule.x))
        x_name = next((name for name in rule.x if named.get(name) is not None), None)
        if x_name is not None:
            self._variables["pairs"] = named[x_name] or 0.0
            self._texts["pairs"] = x_name
        found: list[Point] = []
        for name, y in pairs:
            if name.lower() not in rule.x and y is not None:
                found += self._pair(name, y)
        return found

    def _pair(self, name: str, y: float) -> list[Point]:
        name, unit = split_unit(name)
        name = name[:_NAME_LIMIT]
        known = name in self._counts
        if not known and len(self._counts) >= 4 * self.rules.max_series:
            return []
        count = self._counts[name] = self._counts.get(name, 0) + 1
        x, x_name = float(count), "count"
        if "pairs" in self._variables:
            x, x_name = self._variables["pairs"], self._texts["pairs"]
        point = Point(name, x, y, x_name, unit)
        if not known:  # a single value is a fact, not a series
            self._single[name] = point
            return []
        before = self._single.pop(name, None)
        return [*(self._admit(before) if before else ()), *self._admit(point)]

    # -- points ----------------------------------------------------------------------------------

    def _set(self, name: str, value: float | None) -> list[Point]:
        if value is None:
            return []
        before = self._variables.get(name)
        if before is not None:
            self._changes[name] = value - before
        self._variables[name] = value
        return self._flush() if name == self.rules.x and before != value else []

    def _value(self, name: str) -> float | None:
        if name.endswith(".change"):
            return self._changes.get(name[: -len(".change")])
        return self._variables.get(name)

    def _emit(self, name: str, y: float, spec: Value, x_from: str, keep: str) -> list[Point]:
        x = self._variables.get(x_from, 0.0)
        if x_from == "count":
            x = float(self._counts.get("count", 0))
        x_name = self.rules.x_name or x_from.replace("_", " ")
        point = Point(name[:_NAME_LIMIT], x, y, x_name, spec.unit)
        if keep == "first":
            if self._latest.get(name) == x:
                return []
            self._latest[name] = x
        elif keep == "last":
            before = self._pending.get(name)
            self._pending[name] = point
            return self._admit(before) if before is not None and before.x != x else []
        return self._admit(point)

    def _admit(self, point: Point) -> list[Point]:
        return [point] if self._limiter.admit(point.series) else []

    def _flush(self) -> list[Point]:
        pending: Iterable[Point] = self._pending.values()
        found = [point for before in pending for point in self._admit(before)]
        self._pending = {}
        return found

    _STEPS: Mapping[type, Any] = {
        LineRule: _line,
        TableRule: _table_line,
        BlockRule: _block_line,
        PairsRule: _pairs_line,
    }
