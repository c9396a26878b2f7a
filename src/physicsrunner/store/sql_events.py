"""
Events in SQL: written in the transaction of what they tell of, told to listeners in their order.

Every other part of `SqlStore` stands on this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from physicsrunner.store import schema
from physicsrunner.store.base import Listener
from physicsrunner.store.database import Database
from physicsrunner.wire.live import Event

T = TypeVar("T")


class SqlEvents:
    """The event log of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._listeners: list[Listener] = []

    def _transact(self, work: Callable[[Connection, list[Event]], T]) -> T:
        """Do *work* in one transaction; once it is stored, tell the events that it wrote."""
        told: list[Event] = []
        with self._db.writing():
            with self._db.write() as connection:
                answer = work(connection, told)
            # Still in our turn to write: nobody's later events can overtake these.
            if told:
                for listener in self._listeners:
                    listener(told)
        return answer

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        """Write *events*, and return them with their ids."""

        def work(connection: Connection, told: list[Event]) -> list[Event]:
            write_events(connection, events, told)
            return list(told)

        return self._transact(work)

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        table = schema.events.c
        query = select(schema.events).where(table.id > after).order_by(table.id).limit(limit)
        if run is not None:
            query = query.where(table.run_id == run)
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(query)]


def write_events(connection: Connection, events: Sequence[Event], told: list[Event]) -> None:
    """Write *events* in the present transaction and put them, with their ids, on *told*."""
    for item in events:
        result = connection.execute(
            schema.events.insert(),
            {
                "type": item.type,
                "run_id": item.run,
                "attempt": item.attempt,
                "project_id": item.project,
                "time": item.time,
                "data": item.data,
            },
        )
        key = result.inserted_primary_key
        told.append(replace(item, id=key[0] if key else None))


def _event(row: Any) -> Event:
    return Event(
        type=row.type,
        run=row.run_id,
        attempt=row.attempt,
        project=row.project_id,
        time=row.time,
        data=row.data,
        id=row.id,
    )
