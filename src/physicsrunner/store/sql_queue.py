"""The queue in SQL: what waits, in its order, and handing it out once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, literal, or_, select

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import PRIORITIES, RunSummary
from physicsrunner.core.state import HELD, LEASABLE, RunState
from physicsrunner.store import schema
from physicsrunner.store.base import Decide
from physicsrunner.store.rows import Actor, Offer
from physicsrunner.store.sql_counts import read_counts
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.store.sql_runs import apply, summary_of

_RUNS: Final = schema.runs.c
_COUNTS: Final = schema.run_counts.c
_FIRST: Final = 8  # candidates looked at in one go: most often the first one fits
_PAGE: Final = 200  # and then
_MOST: Final = 5_000  # candidates looked at in one call, when few of them fit
_HELD: Final = sorted(state.value for state in HELD)


class SqlQueue(SqlEvents):
    """The runs that wait."""

    def acquire(self, offer: Offer, decide: Decide, *, by: Actor | None = None) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""

        def work(transaction: Transaction) -> list[RunSummary]:
            connection = transaction.connection
            limit = _allowed(connection, offer)
            taken: list[RunSummary] = []
            room, caps = offer.room, _Caps(connection)
            if limit <= 0:
                return taken
            for run in islice(_waiting(connection, offer, caps), _MOST):
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
            return list(islice(_in_order(connection, select(schema.runs)), limit))

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

    def __init__(self, connection: Connection) -> None:
        self._left: dict[tuple[str, str], int] = {}
        self.full: dict[str, list[str]] = {}
        for kind, table in (("project", schema.projects), ("study", schema.studies)):
            held = (
                select(func.coalesce(func.sum(_COUNTS.runs), 0))
                .where(_COUNTS.kind == kind, _COUNTS.key == table.c.id)
                .where(_COUNTS.status.in_(_HELD))
                .scalar_subquery()
            )
            query = select(table.c.id, table.c.max_concurrent_runs - held).where(
                table.c.max_concurrent_runs.is_not(None)
            )
            for key, left in connection.execute(query):
                self._left[kind, key] = int(left)
        for kind in ("project", "study"):
            self.full[kind] = [
                k for (name, k), left in self._left.items() if name == kind and left <= 0
            ]

    def allow(self, run: RunSummary) -> bool:
        return all(self._left.get(owner, 1) > 0 for owner in _owners(run))

    def take(self, run: RunSummary) -> None:
        for owner in _owners(run):
            if owner in self._left:
                self._left[owner] -= 1


def _owners(run: RunSummary) -> Sequence[tuple[str, str]]:
    return [
        (kind, key)
        for kind, key in (("project", run.project_id), ("study", run.study_id))
        if key is not None
    ]


def _allowed(connection: Connection, offer: Offer) -> int:
    """Return how many runs this call may hand out at most."""
    if offer.agent is not None:
        query = select(schema.agents.c.state).where(schema.agents.c.id == offer.agent)
        if connection.execute(query).scalar() not in (None, "active"):
            return 0
    if offer.caps is None:
        return offer.limit
    counts = read_counts(connection, "all", "")
    return min(offer.limit, offer.caps - sum(counts.get(state, 0) for state in HELD))


def _waiting(connection: Connection, offer: Offer, caps: _Caps) -> Iterator[RunSummary]:
    """Iterate over runs that wait and fit, in the queue's order."""
    room = offer.room
    query = (
        select(schema.runs)
        .where(_RUNS.held.is_(False))
        .where(or_(_RUNS.not_before.is_(None), _RUNS.not_before <= offer.now))
        .where(_RUNS.cpu_cores <= room.cpu_cores, _RUNS.memory_gb <= room.memory_gb)
        .where(_RUNS.gpu_count <= room.gpu_count, _RUNS.storage_gb <= room.storage_gb)
        .with_for_update(skip_locked=True)
    )
    for column, kind in ((_RUNS.project_id, "project"), (_RUNS.study_id, "study")):
        if caps.full[kind]:
            query = query.where(_none_of(column, caps.full[kind]))
    return _in_order(connection, query)


def _none_of(column: ColumnElement[Any], keys: Sequence[str]) -> ColumnElement[bool]:
    return or_(column.is_(None), column.not_in(keys))


def _in_order(connection: Connection, query: Select[Any]) -> Iterator[RunSummary]:
    for priority in sorted(PRIORITIES.values(), reverse=True):
        # One walk along the index for each state: a queue of 100,000 runs is never sorted.
        walks = [_walk(connection, query, state, priority) for state in LEASABLE]
        yield from heapq.merge(*walks, key=lambda run: run.number)


def _walk(
    connection: Connection, query: Select[Any], state: RunState, priority: int
) -> Iterator[RunSummary]:
    last, page = 0, _FIRST
    walk = query.where(_RUNS.status == state.value, _RUNS.priority == priority)
    while True:
        part = walk.where(_RUNS.number > last).order_by(_RUNS.number).limit(page)
        found = [summary_of(row) for row in connection.execute(part).mappings()]
        yield from found
        if len(found) < page:
            return
        last, page = found[-1].number, _PAGE
