"""
Events in SQL: written in the transaction of what they tell of, told to listeners in their order.

Every other part of `SqlStore` stands on this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select

from physicsrunner.store import schema
from physicsrunner.store.base import Listener
from physicsrunner.store.database import Database
from physicsrunner.store.lane import Lane
from physicsrunner.store.outbox import Received
from physicsrunner.store.rows import Actor
from physicsrunner.store.sight import Needs
from physicsrunner.store.sql_transaction import Transaction
from physicsrunner.store.works import Work
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

__all__ = ["SqlEvents", "Transaction", "event_of", "waits_not"]

T = TypeVar("T")
LOOKED_AT: Final = 50_000  #: events, in one call that prunes


class SqlEvents:
    """The event log of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._listeners: list[Listener] = []
        self._lane = Lane(database, self._tell)
        self._looked_upto: dict[bool, int] = {}  # ids of events, by what is pruned

    def _write(self, work: Callable[[Transaction], T], by: Actor | None = None) -> T:
        """Do *work* in a transaction; once it is stored, tell the events that it wrote."""
        return self._lane.do(work, by)

    def _decide(self, needs: Needs, work: Work[T], by: Actor | None = None) -> T:
        """Do the same with a work that reads *needs* and writes by `sql_rows.apply` alone."""
        return self._lane.decide(needs, work, by)

    def _tell(self, events: Sequence[Event]) -> None:
        for listener in self._listeners:
            listener(events)

    def append_events(self, events: Sequence[Event], *, by: Actor | None = None) -> list[Event]:
        """Write *events*, and return them with their ids."""

        def work(transaction: Transaction) -> list[Event]:
            transaction.write_events(events)
            return transaction.told

        return self._write(work, by)

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        table = schema.events.c
        query = select(schema.events).where(table.id > after).order_by(table.id).limit(limit)
        if run is not None:
            query = query.where(table.run_id == run)
        with self._db.read() as connection:
            return [event_of(row) for row in connection.execute(query)]

    def prune_events(
        self,
        before: float,
        limit: int = 10_000,
        *,
        audit: bool = True,
        received: Received | None = None,
    ) -> int:
        """
        Delete events of before *before* that belong to no run there is; return how many.

        One call looks at `LOOKED_AT` events, the next one at those behind them, and so on.
        """
        table = schema.events.c
        of_a_run = exists(select(schema.runs.c.id).where(schema.runs.c.id == table.run_id))
        deleted = table.type == live.DELETED
        of_kind = (
            or_(table.run_id.is_(None), and_(deleted, ~of_a_run))
            if audit
            else and_(table.run_id.is_not(None), ~deleted, ~of_a_run)
        )
        first = self._looked_upto.get(audit, 0)
        upto = first + LOOKED_AT
        old = (
            select(table.id)
            .where(table.id > first, table.id <= upto)
            .where(table.time < before, of_kind, *waits_not(received))
            .order_by(table.id)
            .limit(limit)
        )
        # Looked for outside the transaction: nobody who writes waits for the search.
        with self._db.read() as connection:
            ids = list(connection.execute(old).scalars())
            last = int(connection.execute(select(func.max(table.id))).scalar() or 0)
        if len(ids) == limit:
            self._looked_upto[audit] = ids[-1]
        else:  # from the start again: a run that has gone meanwhile left its events behind
            self._looked_upto[audit] = upto if upto < last else 0

        def work(transaction: Transaction) -> int:
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                transaction.connection.execute(delete(schema.events).where(table.id.in_(some)))
            return len(ids)

        return self._write(work) if ids else 0


def waits_not(received: Received | None) -> list[ColumnElement[bool]]:
    """Return the condition that nobody waits for an event."""
    if received is None:
        return []
    table = schema.events.c
    return [or_(table.id <= received.upto, table.time < received.since)]


def event_of(row: Any) -> Event:
    return Event(
        type=row.type,
        run=row.run_id,
        attempt=row.attempt,
        project=row.project_id,
        time=row.time,
        data=row.data,
        id=row.id,
        actor=row.actor,
        origin=row.origin,
    )
