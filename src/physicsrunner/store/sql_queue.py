"""The queue in SQL: what waits, in its order, and handing it out once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import PRIORITIES, RunSummary
from physicsrunner.core.schedule import is_behind
from physicsrunner.core.state import HELD, LEASABLE
from physicsrunner.store import schema
from physicsrunner.store.base import Decide
from physicsrunner.store.hot import Hot
from physicsrunner.store.partial import IS_BUSY, IS_WAITING
from physicsrunner.store.rows import Actor, Offer
from physicsrunner.store.sql_counts import Moves, read_counts
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.store.sql_rows import COLUMNS, SELECTED, apply, run_of

_RUNS: Final = schema.runs.c
_COUNTS: Final = schema.run_counts.c
_PAGE: Final = 200  # candidates read in one go, after the first ones: most often those fit
_MOST: Final = 5_000  # candidates looked at in one call, when few of them fit
_IS_WAITING: Final = cast("ColumnElement[bool]", text(IS_WAITING))
_PRIORITY: Final = COLUMNS.index("priority")
_NUMBER: Final = COLUMNS.index("number")
_HELD: Final = sorted(state.value for state in HELD)
# Words of ours, said in full: a statement that is compiled once has no list of unknown length.
_IS_HELD: Final = _COUNTS.status.in_([literal_column(f"'{state}'") for state in _HELD])
_LEASABLE: Final = sorted(state.value for state in LEASABLE)
_AGENT: Final = Hot(select(schema.agents.c.state).where(schema.agents.c.id == bindparam("agent")))


class SqlQueue(SqlEvents):
    """The runs that wait."""

    def acquire(self, offer: Offer, decide: Decide, *, by: Actor | None = None) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""

        def work(transaction: Transaction) -> list[RunSummary]:
            connection = transaction.connection
            limit = _allowed(transaction, offer)
            taken: list[RunSummary] = []
            if limit <= 0:
                return taken
            room, caps = offer.room, _Caps(transaction)
            for found in islice(_waiting(connection, offer, caps), _MOST):
                run = found.run
                if is_behind(run, offer.last):
                    break
                if room.fits(run) and has_labels(run, offer.labels) and caps.allow(found):
                    change = decide(run)
                    if change is not None:
                        taken.append(apply(transaction, run, change))
                        caps.take(found)
                        room = room.without(run)
                if len(taken) >= limit:
                    break
            return taken

        return self._write(work, by, reads=True)

    def oldest_waiting(self, limit: int = 50) -> list[RunSummary]:
        """Return the runs that wait, held ones too, in the queue's order."""
        with self._db.read() as connection:
            every = _in_order(connection, lambda: _EVERY, {}, limit)
            return [found.run for found in islice(every, limit)]

    def waiting_before(self, run: RunSummary, limit: int = 1000) -> int:
        """Return how many runs the queue has before *run*, counted up to *limit*."""
        found = 0
        with self._db.read() as connection:
            for priority in PRIORITIES.values():
                if priority < run.priority:
                    continue
                for state in LEASABLE:
                    ahead = select(literal(1)).where(
                        _RUNS.status == state.value,
                        _IS_WAITING,
                        _RUNS.priority == priority,
                        _RUNS.held.is_(False),
                    )
                    if priority == run.priority:
                        ahead = ahead.where(_RUNS.number < run.number)
                    few = ahead.limit(limit).subquery()
                    query = select(func.count()).select_from(few)
                    found += int(connection.execute(query).scalar_one())
        return min(found, limit)


class _Caps:
    """How many more runs projects and studies may hold: asked for those that a call meets."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._left: dict[tuple[str, str], float] = {}
        self.full = False  #: whether a run was met whose project or study can have no more

    def allow(self, found: _Candidate) -> bool:
        """Say whether the run's project and study have room for it."""
        for owner, cap in found.owners:
            if owner not in self._left:
                self._left[owner] = math.inf if cap is None else cap - self._held(*owner)
            if self._left[owner] <= 0:
                self.full = True
                return False
        return True

    def take(self, found: _Candidate) -> None:
        """Count a run that is handed out."""
        for owner, _ in found.owners:
            self._left[owner] -= 1

    def _held(self, kind: str, key: str) -> int:
        there = _HELD_BY.run(self._transaction.connection, {"kind": kind, "key": key}).fetchone()
        return int(there[0]) + _held_more(self._transaction.pending, kind, key)


class _Candidate:
    """A run that waits and fits, and the limits of what it belongs to."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.run = run_of(row[:-2])
        owners = (("project", self.run.project_id), ("study", self.run.study_id))
        self.owners = [
            ((kind, key), cap)
            for (kind, key), cap in zip(owners, row[-2:], strict=True)
            if key is not None
        ]


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


_HELD_BY: Final = Hot(
    select(func.coalesce(func.sum(_COUNTS.runs), 0)).where(
        _COUNTS.kind == bindparam("kind"), _COUNTS.key == bindparam("key"), _IS_HELD
    )
)


def _held_more(pending: Moves, kind: str, key: str) -> int:
    """Return how many more runs are held than the table says."""
    return sum(pending.get((kind, key, state), 0) for state in _HELD)


def _allowed(transaction: Transaction, offer: Offer) -> int:
    """Return how many runs this call may hand out at most."""
    connection = transaction.connection
    if offer.agent is not None:
        state = _AGENT.run(connection, {"agent": offer.agent}).fetchone()
        if state is not None and state[0] != "active":
            return 0
    if offer.caps is None:
        return offer.limit
    counts = read_counts(connection, "all", "")
    held = sum(counts.get(state, 0) for state in HELD)
    return min(offer.limit, offer.caps - held - _held_more(transaction.pending, "all", ""))


def _waiting(connection: Connection, offer: Offer, caps: _Caps) -> Iterator[_Candidate]:
    """Iterate over runs that wait and fit, in the queue's order."""
    values = {"now": offer.now, **vars(offer.room)}

    def walks() -> _Walks:  # asked for each part: the first ones tell whether anybody is full
        return _NOT_OF_FULL if caps.full else _FITTING

    return _in_order(connection, walks, values, offer.limit)


class _Walks:
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


def _in_order(
    connection: Connection, walks: Callable[[], _Walks], values: Mapping[str, Any], first: int
) -> Iterator[_Candidate]:
    # One walk along the index for each state: a queue of 100,000 runs is never sorted.
    each = [{**values, "state": state, "few": first} for state in _LEASABLE]
    started = walks().start.rows_of_each(connection, each)
    both = [
        _walk(connection, walks, asked, rows) for asked, rows in zip(each, started, strict=True)
    ]
    return heapq.merge(*both, key=lambda found: (-found.run.priority, found.run.number))


def _walk(
    connection: Connection,
    walks: Callable[[], _Walks],
    values: Mapping[str, Any],
    rows: Sequence[Sequence[Any]],
) -> Iterator[_Candidate]:
    """Iterate over runs of one state, of which the first *rows* have been read."""
    few, part, last = values["few"], "start", {"priority": 0, "number": 0}
    while True:
        for row in rows:
            yield _Candidate(row)  # one at a time: most often the first are all that is needed
        if rows:
            last = {"priority": rows[-1][_PRIORITY], "number": rows[-1][_NUMBER]}
        if len(rows) == few:
            part = "behind"
        elif part == "behind":
            part = "below"
        else:
            return
        few = _PAGE
        statement: Hot = getattr(walks(), part)
        rows = statement.run(connection, {**values, **last, "few": few}).fetchall()


_EVERY: Final = _Walks(hands_out=False)
_FITTING: Final = _Walks(
    _RUNS.held.is_(False),
    or_(_RUNS.not_before.is_(None), _RUNS.not_before <= bindparam("now")),
    _RUNS.cpu_cores <= bindparam("cpu_cores"),
    _RUNS.memory_gb <= bindparam("memory_gb"),
    _RUNS.gpu_count <= bindparam("gpu_count"),
    _RUNS.storage_gb <= bindparam("storage_gb"),
)
_NOT_OF_FULL: Final = _Walks(
    *_FITTING.conditions,
    _not_of_full(_RUNS.project_id, "project", schema.projects),
    _not_of_full(_RUNS.study_id, "study", schema.studies),
)
