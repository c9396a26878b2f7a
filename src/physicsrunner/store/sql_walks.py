"""
Walks along the queue's index: who waits, in the queue's order, part by part.

Promises: a queue of 100,000 runs is never sorted. What is read to be handed out is kept from other
servers until the transaction ends (``FOR UPDATE SKIP LOCKED`` on PostgreSQL); who only looks keeps
nothing from anybody.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, or_, select, text

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import LEASABLE
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot
from physicsrunner.store.partial import IS_BUSY, IS_WAITING
from physicsrunner.store.sql_rows import COLUMNS, SELECTED, run_of

PAGE: Final = 200  # candidates read in one go, after the first ones: most often those fit
_RUNS: Final = schema.runs.c
_COUNTS: Final = schema.run_counts.c
_IS_WAITING: Final = cast("ColumnElement[bool]", text(IS_WAITING))
_PRIORITY: Final = COLUMNS.index("priority")
_NUMBER: Final = COLUMNS.index("number")
_LEASABLE: Final = sorted(state.value for state in LEASABLE)


class Candidate:
    """A run that waits and fits, and the limits of what it belongs to."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.run = run_of(row[:-2])
        owners = (("project", self.run.project_id), ("study", self.run.study_id))
        self.owners = [
            ((kind, key), cap)
            for (kind, key), cap in zip(owners, row[-2:], strict=True)
            if key is not None
        ]

    def as_now(self, run: RunSummary) -> Candidate:
        """Return the candidate with its run as it is now."""
        made = Candidate.__new__(Candidate)
        made.run, made.owners = run, self.owners
        return made


def _cap(of_run: ColumnElement[Any], table: Any) -> ColumnElement[int]:
    limit: ColumnElement[int] = (
        select(table.c.max_concurrent_runs).where(table.c.id == of_run).scalar_subquery()
    )
    return limit


def _not_of_full(column: ColumnElement[Any], kind: str, table: Any) -> ColumnElement[bool]:
    """Return the condition that a run's owner, if any, is not full: only the busy are read."""
    full = (
        select(_COUNTS.key)
        .join(table, table.c.id == _COUNTS.key)
        .where(text(IS_BUSY), _COUNTS.kind == literal_column(f"'{kind}'"))
        .group_by(_COUNTS.key, table.c.max_concurrent_runs)
        .having(func.sum(_COUNTS.runs) >= table.c.max_concurrent_runs)
    )
    return or_(column.is_(None), column.not_in(full))


class Walks:
    """The statements that walk along the queue's index, in parts; *hands_out*: to hand out."""

    def __init__(self, *conditions: ColumnElement[bool], hands_out: bool = True) -> None:
        self.conditions = conditions
        query = (
            select(
                *SELECTED,
                _cap(_RUNS.project_id, schema.projects).label("of_project"),
                _cap(_RUNS.study_id, schema.studies).label("of_study"),
            )
            .where(_RUNS.status == bindparam("state"), _IS_WAITING, *conditions)
            .order_by(_RUNS.priority.desc(), _RUNS.number)
            .limit(bindparam("few"))
        )
        if hands_out:  # who only looks must not keep a run from those who hand it out
            query = query.with_for_update(skip_locked=True)
        same = (_RUNS.priority == bindparam("priority"), _RUNS.number > bindparam("number"))
        self.start = Hot(query)
        self.behind = Hot(query.where(*same))  # of the same priority
        self.below = Hot(query.where(_RUNS.priority < bindparam("priority")))

    def starts(
        self, connection: Connection, values: Mapping[str, Any], few: int
    ) -> list[Callable[[], list[Any]]]:
        """Ask for the first *few* of each state; return what gives their rows."""
        # One walk along the index for each state: the queue is never sorted.
        each = [{**values, "state": state, "few": few} for state in _LEASABLE]
        return [self.start.send(connection, asked) for asked in each]


EVERY: Final = Walks(hands_out=False)
FITTING: Final = Walks(
    _RUNS.held.is_(False),
    or_(_RUNS.not_before.is_(None), _RUNS.not_before <= bindparam("now")),
    _RUNS.cpu_cores <= bindparam("cpu_cores"),
    _RUNS.memory_gb <= bindparam("memory_gb"),
    _RUNS.gpu_count <= bindparam("gpu_count"),
    _RUNS.storage_gb <= bindparam("storage_gb"),
)
NOT_OF_FULL: Final = Walks(
    *FITTING.conditions,
    _not_of_full(_RUNS.project_id, "project", schema.projects),
    _not_of_full(_RUNS.study_id, "study", schema.studies),
)


def in_order(
    connection: Connection, walks: Callable[[], Walks], values: Mapping[str, Any], first: int
) -> Iterator[Candidate]:
    """
    Iterate over the queue, the *first* ones of each state read in one go.

    *walks* is asked for each part anew.
    """
    with_rows = walks().starts(connection, values, first)
    both = [
        _walk(connection, walks, {**values, "state": state}, first, answer())
        for state, answer in zip(_LEASABLE, with_rows, strict=True)
    ]
    return heapq.merge(*both, key=lambda found: (-found.run.priority, found.run.number))


def head(parts: Sequence[Sequence[Sequence[Any]]], few: int) -> tuple[list[Candidate], bool]:
    """
    Return the queue's head, and whether that is all of it.

    *parts*: of each state the first *few* rows. Where one has more, nothing behind its last is
    known to be next.
    """
    cut = [_place(rows[-1]) for rows in parts if len(rows) == few]
    rows = heapq.merge(*parts, key=_place)
    return [Candidate(row) for row in rows if not cut or _place(row) <= min(cut)], not cut


def _place(row: Sequence[Any]) -> tuple[int, int]:
    return -row[_PRIORITY], row[_NUMBER]


def _walk(
    connection: Connection,
    walks: Callable[[], Walks],
    values: Mapping[str, Any],
    few: int,
    rows: Sequence[Sequence[Any]],
) -> Iterator[Candidate]:
    """Iterate over runs of one state, of which the first *few*, *rows*, have been read."""
    part, last = "start", {"priority": 0, "number": 0}
    while True:
        for row in rows:
            yield Candidate(row)  # one at a time: most often the first are all that is needed
        if rows:
            last = {"priority": rows[-1][_PRIORITY], "number": rows[-1][_NUMBER]}
        if len(rows) == few:
            part = "behind"
        elif part == "behind":
            part = "below"
        else:
            return
        few = PAGE
        statement: Hot = getattr(walks(), part)
        rows = statement.run(connection, {**values, **last, "few": few}).fetchall()
