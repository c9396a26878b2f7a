"""
Lists of runs in SQL, at a cost that does not grow with the number of runs.

Promises:

- A list in the order of time, by one owner (project, the projects of a member, study, model, agent,
  creator, tag) or state, walks along its index: every page is exact. So is every order of the list
  of all runs. Totals come from the table of counts.
- Where no index has both the filter and the order, at most `WINDOW` runs are looked at: all that
  match, if they are no more, otherwise those that come first in the order that is asked for, or the
  newest. The page says so (``exact``). Parts of names are looked for in the same way.
- Nobody leafs deeper than `sql_ways.DEEPEST` runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    func,
    literal,
    select,
    union_all,
)

from physicsrunner.core.run import RunFilter, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.rows import RunPage
from physicsrunner.store.sql_counts import read_counts
from physicsrunner.store.sql_events import SqlEvents
from physicsrunner.store.sql_rows import summary_of
from physicsrunner.store.sql_ways import (
    LOOKED_AT,
    Condition,
    Way,
    best_way,
    condition,
    known_total,
    parts,
    simplified,
)

WINDOW: Final = 1_000
_RUNS: Final = schema.runs.c
_TAGS: Final = schema.run_tags.c
_UNKNOWN: Final = ("started_at", "completed_at")  # sort keys that a run may not have


class SqlLists(SqlEvents):
    """Lists of runs."""

    def runs(self, wanted: RunFilter) -> RunPage:
        """Return one page of the runs that *wanted* describes."""
        asked = simplified(wanted)
        if asked is None:
            return RunPage([], 0)
        with self._db.read() as connection:
            numbers, total, exact = _Listing(connection, asked).page()
            return RunPage(_in_order(connection, numbers), total, exact)


class _Listing:
    """One question, answered on one connection."""

    def __init__(self, connection: Connection, wanted: RunFilter) -> None:
        self._connection = connection
        self._wanted = wanted
        self._key = wanted.sort.removeprefix("-")
        self._down = wanted.sort.startswith("-")
        self._depth = wanted.offset + wanted.limit
        self._counts: dict[tuple[str, str], dict[RunState, int]] = {}

    def page(self) -> tuple[Sequence[int], int, bool]:
        """Return the numbers of the runs of the page, the total, and whether that is exact."""
        asked = parts(self._wanted)
        if self._wanted.tag is not None:
            return self._tagged(alone=asked == {"tag"})
        way = best_way(self._wanted, self._count)
        total = known_total(self._wanted, self._count)
        if asked <= way.covers and self._key == "created_at":
            numbers = self._walk([(0, branch) for branch in way.branches], _RUNS.created_at)
        elif not asked:
            numbers = self._every()
        else:
            numbers, seen, complete = self._looked_at(way)
            known = complete and (total is not None or way.runs <= WINDOW)
            return numbers, seen if total is None else total, known
        return numbers, way.runs if total is None else total, True

    def _every(self) -> Sequence[int]:
        """Return a page of all runs, along the index of its order."""
        column = _RUNS[self._key]
        if self._key == "status":
            places = sorted(RunState, key=str)
            pieces = [(n, _RUNS.status == state.value) for n, state in enumerate(places)]
            return self._walk(pieces, _RUNS.created_at)
        if self._key in _UNKNOWN:  # databases do not agree where nothing belongs
            return self._walk([(0, column.is_(None)), (1, column.is_not(None))], column)
        return self._walk([(0, None)], column)

    def _walk(
        self, pieces: Sequence[tuple[int, Condition | None]], column: ColumnElement[Any]
    ) -> Sequence[int]:
        """Return a page of branches that each have an index; the lower place goes first."""
        walks = []
        for place, of_it in pieces:
            walk = select(literal(place).label("place"), column.label("key"), _RUNS.number)
            if of_it is not None:
                walk = walk.where(of_it)
            walks.append(walk.order_by(*self._ordered(column, _RUNS.number)).limit(self._depth))
        if len(walks) == 1:
            page = walks[0].limit(self._wanted.limit).offset(self._wanted.offset)
            return [row.number for row in self._connection.execute(page)]
        every = union_all(*(select(walk.subquery()) for walk in walks)).subquery()
        order = self._ordered(every.c.place, every.c.key, every.c.number)
        page = select(every.c.number).order_by(*order)
        page = page.limit(self._wanted.limit).offset(self._wanted.offset)
        return list(self._connection.execute(page).scalars())

    def _looked_at(self, way: Way) -> tuple[Sequence[int], int, bool]:
        """
        Return a page of runs that were looked at one by one, and how many of them matched.

        And whether it is surely the page that was asked for: nothing that belongs on it was left
        out because it was not looked at.
        """
        asked = parts(self._wanted)
        if way.runs > WINDOW and self._is_likely(way):
            found = self._matching(self._first(), asked)
            if len(found) >= self._depth:
                return self._cut(found), len(found), True
        newest_first = self._down or self._key != "created_at"
        order = [_turned(column, newest_first) for column in (_RUNS.created_at, _RUNS.number)]
        each = WINDOW if way.runs <= WINDOW else max(WINDOW // len(way.branches), self._depth)
        found = []
        for branch in way.branches:
            some = select(schema.runs).order_by(*order).limit(each)
            some = some if branch is None else some.where(branch)
            found += self._matching(some, asked - way.covers)
        in_order = self._key == "created_at" and len(way.branches) == 1
        complete = way.runs <= WINDOW or (in_order and len(found) >= self._depth)
        return self._cut(found), len(found), complete

    def _is_likely(self, way: Way) -> bool:
        """Say whether a page is among the first runs of all, if what matches lies anywhere."""
        among = WINDOW * way.runs / max(1, self._count("all", "", ()))
        return self._key not in ("created_at", "status") and among > 2 * self._depth

    def _first(self) -> Select[Any]:
        """Return the query for the runs that come first in the order that is asked for."""
        column = _RUNS[self._key]
        first = select(schema.runs).order_by(*self._ordered(column, _RUNS.number)).limit(WINDOW)
        if self._key not in _UNKNOWN:
            return first
        return first.where(column.is_not(None) if self._down else column.is_(None))

    def _tagged(self, *, alone: bool) -> tuple[Sequence[int], int, bool]:
        by_age = self._key in ("created_at", "number")
        tagged = select(_TAGS.number).where(_TAGS.tag == self._wanted.tag)
        some = tagged.limit(2 * WINDOW).subquery()
        there = int(self._connection.execute(select(func.count()).select_from(some)).scalar_one())
        tagged = tagged.order_by(_turned(_TAGS.number, self._down or not by_age))
        if alone and by_age:
            page = tagged.limit(self._wanted.limit).offset(self._wanted.offset)
            return list(self._connection.execute(page).scalars()), there, there < 2 * WINDOW
        first = tagged.limit(WINDOW).subquery()
        joined = select(schema.runs).join(first, first.c.number == _RUNS.number)
        found = self._matching(joined, parts(self._wanted) - {"tag"})
        return self._cut(found), len(found), there <= WINDOW

    def _matching(self, some: Select[Any], asked: Iterable[str]) -> list[tuple[Any, int]]:
        """Return what orders them, and the number, of those of *some* runs that are wanted."""
        asked = sorted(asked)
        names = {name for part in asked for name in LOOKED_AT.get(part, (part,))}
        columns = (_RUNS[name] for name in sorted({*names, "number", self._key}))
        inner = some.with_only_columns(*columns).subquery()
        query = select(inner.c[self._key], inner.c.number)
        query = query.where(*(condition(part, self._wanted, inner.c) for part in asked))
        return [(row[0], row[1]) for row in self._connection.execute(query)]

    def _cut(self, found: list[tuple[Any, int]]) -> Sequence[int]:
        """Return the page of runs of which order and number are known."""
        unknown = [row for row in found if row[0] is None]  # comes first
        known = [row for row in found if row[0] is not None]
        ordered = sorted(unknown, key=lambda row: row[1]) + sorted(known)
        if self._down:
            ordered.reverse()
        return [number for _, number in ordered[self._wanted.offset : self._depth]]

    def _ordered(self, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        return [_turned(column, self._down) for column in columns]

    def _count(self, kind: str, key: str, states: Sequence[RunState]) -> int:
        known = self._counts.get((kind, key))
        if known is None:
            known = self._counts[kind, key] = read_counts(self._connection, kind, key)
        return sum(known.get(state, 0) for state in states) if states else sum(known.values())


def _turned(column: ColumnElement[Any], down: bool) -> ColumnElement[Any]:
    return column.desc() if down else column.asc()


def _in_order(connection: Connection, numbers: Sequence[int]) -> list[RunSummary]:
    """Return the runs of these numbers, in their order."""
    found: dict[int, RunSummary] = {}
    for start in range(0, len(numbers), 500):
        some = select(schema.runs).where(_RUNS.number.in_(numbers[start : start + 500]))
        for row in connection.execute(some).mappings():
            found[row["number"]] = summary_of(row)
    return [found[number] for number in numbers if number in found]
