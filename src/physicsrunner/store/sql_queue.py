"""The queue in SQL: what waits, in its order, and handing it out once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import PRIORITIES, RunSummary
from physicsrunner.core.schedule import is_behind
from physicsrunner.core.state import HELD, LEASABLE
from physicsrunner.store import schema
from physicsrunner.store.base import Decide
from physicsrunner.store.hot import Hot
from physicsrunner.store.rows import Actor, Offer
from physicsrunner.store.sql_counts import Moves, read_counts
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.store.sql_rows import COLUMNS, SELECTED, apply, run_of

_RUNS: Final = schema.runs.c
_COUNTS: Final = schema.run_counts.c
_PAGE: Final = 200  # candidates read in one go, after the first ones: most often those fit
_MOST: Final = 5_000  # candidates looked at in one call, when few of them fit
_IS_WAITING: Final = cast("ColumnElement[bool]", text(schema.IS_WAITING))
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
            for run in islice(_waiting(connection, offer, caps), _MOST):
                if is_behind(run, offer.last):
                    break
                if room.fits(run) and has_labels(run, offer.labels) and caps.allow(run):
                    change = decide(run)
                    if change is not None:
                        taken.append(apply(transaction, run, change))
                        caps.take(run)
                        room = room.without(run)
                if len(taken) >= limit:
                    break
            return taken

        return self._write(work, by)

    def oldest_waiting(self, limit: int = 50) -> list[RunSummary]:
        """Return the runs that wait, held ones too, in the queue's order."""
        with self._db.read() as connection:
            return list(islice(_in_order(connection, _EVERY, {}, limit), limit))

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
    """How many more runs projects and studies may hold, as far as one call needs to know."""

    def __init__(self, transaction: Transaction) -> None:
        rows = _CAPPED.run(transaction.connection).fetchall()
        self._left = {
            (kind, key): int(left) - _held_more(transaction.pending, kind, key)
            for kind, key, left in rows
        }

    @property
    def full(self) -> bool:
        """Whether any project or study can have no more."""
        return any(left <= 0 for left in self._left.values())

    def allow(self, run: RunSummary) -> bool:
        """Say whether the run's project and study have room for it."""
        return not self._left or all(self._left.get(owner, 1) > 0 for owner in _owners(run))

    def take(self, run: RunSummary) -> None:
        """Count a run that is handed out."""
        for owner in _owners(run):
            if owner in self._left:
                self._left[owner] -= 1


def _owners(run: RunSummary) -> Sequence[tuple[str, str]]:
    return [
        (kind, key)
        for kind, key in (("project", run.project_id), ("study", run.study_id))
        if key is not None
    ]


def _room(kind: str, table: Any) -> ColumnElement[int]:
    """Return how many more runs an owner may hold."""
    held = (
        select(func.coalesce(func.sum(_COUNTS.runs), 0))
        .where(_COUNTS.kind == kind, _COUNTS.key == table.c.id, _IS_HELD)
        .scalar_subquery()
    )
    left: ColumnElement[int] = table.c.max_concurrent_runs - held
    return left


def _capped(kind: str, table: Any) -> Select[Any]:
    """Return the query for the owners with a limit, and how far they are below it."""
    query = select(literal_column(f"'{kind}'"), table.c.id, _room(kind, table).label("room"))
    return query.where(table.c.max_concurrent_runs.is_not(None))


def _not_of_full(column: ColumnElement[Any], kind: str, table: Any) -> ColumnElement[bool]:
    full = select(table.c.id).where(
        table.c.max_concurrent_runs.is_not(None), _room(kind, table) <= 0
    )
    return or_(column.is_(None), column.not_in(full))


_CAPPED: Final = Hot(
    union_all(_capped("project", schema.projects), _capped("study", schema.studies))
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


def _waiting(connection: Connection, offer: Offer, caps: _Caps) -> Iterator[RunSummary]:
    """Iterate over runs that wait and fit, in the queue's order."""
    values = {"now": offer.now, **vars(offer.room)}
    walks = _NOT_OF_FULL if caps.full else _FITTING
    return _in_order(connection, walks, values, offer.limit)


class _Walks:
    """The statements that walk along the queue's index, in parts."""

    def __init__(self, *conditions: ColumnElement[bool]) -> None:
        self.conditions = conditions
        query = (
            select(*SELECTED)
            .where(_RUNS.status == bindparam("state"), _IS_WAITING, *conditions)
            .order_by(_RUNS.priority.desc(), _RUNS.number)
            .limit(bindparam("few"))
            .with_for_update(skip_locked=True)
        )
        same = (_RUNS.priority == bindparam("priority"), _RUNS.number > bindparam("number"))
        self.start = Hot(query)
        self.behind = Hot(query.where(*same))  # of the same priority
        self.below = Hot(query.where(_RUNS.priority < bindparam("priority")))


def _in_order(
    connection: Connection, walks: _Walks, values: Mapping[str, Any], first: int
) -> Iterator[RunSummary]:
    # One walk along the index for each state: a queue of 100,000 runs is never sorted.
    both = [_walk(connection, walks, {**values, "state": state}, first) for state in _LEASABLE]
    return heapq.merge(*both, key=lambda run: (-run.priority, run.number))


def _walk(
    connection: Connection, walks: _Walks, values: Mapping[str, Any], first: int
) -> Iterator[RunSummary]:
    few, statement, last = first, walks.start, {"priority": 0, "number": 0}
    while True:
        rows = statement.run(connection, {**values, **last, "few": few}).fetchall()
        for row in rows:
            yield run_of(row)  # one at a time: most often the first ones are all that is needed
        if rows:
            last = {"priority": rows[-1][_PRIORITY], "number": rows[-1][_NUMBER]}
        if len(rows) == few:
            statement, few = walks.behind, _PAGE
        elif statement is walks.behind:
            statement = walks.below
        else:
            return


_EVERY: Final = _Walks()
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
