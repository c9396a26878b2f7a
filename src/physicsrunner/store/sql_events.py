"""
Events in SQL: written in the transaction of what they tell of, told to listeners in their order.

Every other part of `SqlStore` stands on this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, exists, or_, select

from physicsrunner.core.run import RunSummary
from physicsrunner.store import schema
from physicsrunner.store.base import Listener
from physicsrunner.store.database import Database
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_counts import Moves, moves, write_moves
from physicsrunner.wire.live import Event

T = TypeVar("T")


class Transaction:
    """A connection in a write transaction, and what one caller's work has done with it."""

    def __init__(self, connection: Connection, by: Actor | None = None) -> None:
        self.connection = connection
        self.by = by
        self.told: list[Event] = []  #: events written, with their ids
        self.moves: Moves = Counter()  #: how the numbers of runs change

    def moved(self, before: RunSummary | None, after: RunSummary | None) -> None:
        """Count a run where it is now and no longer where it was."""
        self.moves.update(moves(before, after))

    def write_events(self, events: Sequence[Event]) -> None:
        """Write *events* as caused by whoever asked."""
        write_events(self.connection, events, self.told, by=self.by)


class SqlEvents:
    """The event log of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._listeners: list[Listener] = []

    def _write(self, work: Callable[[Transaction], T], by: Actor | None = None) -> T:
        """Do *work* in one transaction; once it is stored, tell the events that it wrote."""
        with self._db.writing():
            with self._db.write() as connection:
                transaction = Transaction(connection, by)
                answer = work(transaction)
                write_moves(connection, transaction.moves)
            # Still in our turn to write: nobody's later events can overtake these.
            if transaction.told:
                for listener in self._listeners:
                    listener(transaction.told)
        return answer

    def _transact(self, work: Callable[[Connection, list[Event]], T]) -> T:
        """Do *work*, which needs no more than a connection and the list of told events."""
        return self._write(lambda transaction: work(transaction.connection, transaction.told))

    def append_events(self, events: Sequence[Event], *, by: Actor | None = None) -> list[Event]:
        """Write *events*, and return them with their ids."""

        def work(transaction: Transaction) -> list[Event]:
            transaction.write_events(events)
            return list(transaction.told)

        return self._write(work, by)

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        table = schema.events.c
        query = select(schema.events).where(table.id > after).order_by(table.id).limit(limit)
        if run is not None:
            query = query.where(table.run_id == run)
        with self._db.read() as connection:
            return [event_of(row) for row in connection.execute(query)]

    def prune_events(self, before: float, limit: int = 10_000) -> int:
        """Delete events of before *before* that belong to no run there is; return how many."""
        table = schema.events.c
        of_a_run = exists(select(schema.runs.c.id).where(schema.runs.c.id == table.run_id))
        old = (
            select(table.id)
            .where(table.time < before, or_(table.run_id.is_(None), ~of_a_run))
            .order_by(table.id)
            .limit(limit)
        )
        # Looked for outside the transaction: nobody who writes waits for the search.
        with self._db.read() as connection:
            ids = list(connection.execute(old).scalars())

        def work(transaction: Transaction) -> int:
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                transaction.connection.execute(delete(schema.events).where(table.id.in_(some)))
            return len(ids)

        return self._write(work) if ids else 0


def write_events(
    connection: Connection,
    events: Sequence[Event],
    told: list[Event],
    *,
    by: Actor | None = None,
) -> None:
    """Write *events* in the present transaction and put them, with their ids, on *told*."""
    for item in events:
        item = stamped(item, by)
        result = connection.execute(
            schema.events.insert(),
            {
                "type": item.type,
                "run_id": item.run,
                "attempt": item.attempt,
                "project_id": item.project,
                "time": item.time,
                "data": item.data,
                "actor": item.actor,
                "origin": item.origin,
            },
        )
        key = result.inserted_primary_key
        told.append(replace(item, id=key[0] if key else None))


def stamped(item: Event, by: Actor | None) -> Event:
    """Return the event with who caused it."""
    return item if by is None else replace(item, actor=by.name, origin=by.origin)


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
