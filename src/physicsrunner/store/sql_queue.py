"""The queue in SQL: what waits, in its order, and handing it out once."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, cast

from sqlalchemy import ColumnElement, bindparam, func, literal, literal_column, select, text

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import PRIORITIES, RunSummary
from physicsrunner.core.schedule import is_behind
from physicsrunner.core.state import HELD, LEASABLE
from physicsrunner.store import schema
from physicsrunner.store.base import Decide
from physicsrunner.store.hot import Hot
from physicsrunner.store.partial import IS_WAITING
from physicsrunner.store.rows import Actor, Offer
from physicsrunner.store.sight import Needs, Sight
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.store.sql_rows import apply
from physicsrunner.store.sql_walks import EVERY, Candidate, in_order

_RUNS: Final = schema.runs.c
_COUNTS: Final = schema.run_counts.c
_MOST: Final = 5_000  # candidates looked at in one call, when few of them fit
_IS_WAITING: Final = cast("ColumnElement[bool]", text(IS_WAITING))
_HELD: Final = sorted(state.value for state in HELD)
# Words of ours, said in full: a statement that is compiled once has no list of unknown length.
_IS_HELD: Final = _COUNTS.status.in_([literal_column(f"'{state}'") for state in _HELD])
_HELD_BY: Final = Hot(
    select(func.coalesce(func.sum(_COUNTS.runs), 0)).where(
        _COUNTS.kind == bindparam("kind"), _COUNTS.key == bindparam("key"), _IS_HELD
    )
)


class SqlQueue(SqlEvents):
    """The runs that wait."""

    def acquire(self, offer: Offer, decide: Decide, *, by: Actor | None = None) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""

        def work(transaction: Transaction, sight: Sight) -> list[RunSummary]:
            limit = sight.allowed(offer)
            taken: list[RunSummary] = []
            if limit <= 0:
                return taken
            room, caps = offer.room, _Caps(transaction)
            for found in islice(sight.waiting(offer, lambda: caps.full), _MOST):
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

        return self._decide(Needs(offer=offer), work, by)

    def oldest_waiting(self, limit: int = 50) -> list[RunSummary]:
        """Return the runs that wait, held ones too, in the queue's order."""
        with self._db.read() as connection:
            every = in_order(connection, lambda: EVERY, {}, limit)
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

    def allow(self, found: Candidate) -> bool:
        """Say whether the run's project and study have room for it."""
        for owner, cap in found.owners:
            if owner not in self._left:
                self._left[owner] = math.inf if cap is None else cap - self._held(*owner)
            if self._left[owner] <= 0:
                self.full = True
                return False
        return True

    def take(self, found: Candidate) -> None:
        """Count a run that is handed out."""
        for owner, _ in found.owners:
            self._left[owner] -= 1

    def _held(self, kind: str, key: str) -> int:
        there = _HELD_BY.run(self._transaction.connection, {"kind": kind, "key": key}).fetchone()
        pending = self._transaction.pending
        return int(there[0]) + sum(pending.get((kind, key, state), 0) for state in _HELD)
