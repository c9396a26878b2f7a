"""
One piece of work inside a write transaction, and what it leaves to do before it is stored.

Promises: events and counts of a work that fails are forgotten with it. Nothing here commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

from physicsrunner.core.run import RunSummary
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot, Insert
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_counts import Moves, moves
from physicsrunner.wire.live import Event

_FIELDS: Final = (
    "id",
    "type",
    "run_id",
    "attempt",
    "project_id",
    "time",
    "data",
    "actor",
    "origin",
)
_INSERT: Final = Insert(schema.events, _FIELDS)
_LAST: Final = Hot(text("SELECT seq FROM sqlite_sequence WHERE name = 'events'"))
_NEXT: Final = Hot(
    text("SELECT nextval('events_id_seq') FROM generate_series(1, CAST(:number AS integer))")
)


class Transaction:
    """A connection in a write transaction, and what one caller's work has done with it."""

    def __init__(
        self, connection: Connection, by: Actor | None = None, pending: Moves | None = None
    ) -> None:
        self.connection = connection
        self.by = by
        self.pending: Moves = Counter() if pending is None else pending
        # ^ what earlier works of the same transaction changed, and is not in the table yet
        self.told: list[Event] = []  #: events written, with their ids
        self.moves: Moves = Counter()  #: how the numbers of runs change

    def moved(self, before: RunSummary | None, after: RunSummary | None) -> None:
        """Count a run where it is now and no longer where it was."""
        moves(before, after, self.moves)

    def write_events(self, events: Sequence[Event]) -> None:
        """Write *events* as caused by whoever asked."""
        write_events(self.connection, events, self.told, by=self.by)


def write_events(
    connection: Connection,
    events: Sequence[Event],
    told: list[Event],
    *,
    by: Actor | None = None,
) -> None:
    """Write *events* in the present transaction and put them, with their ids, on *told*."""
    if not events:
        return
    first = len(told)
    for number, item in zip(_ids(connection, len(events)), events, strict=True):
        who = (item.actor, item.origin) if by is None else (by.name, by.origin)
        told.append(
            Event(
                item.type,
                item.run,
                item.attempt,
                item.project,
                item.time,
                item.data,
                number,
                *who,
            )
        )
    _INSERT.rows(connection, [_row(item) for item in told[first:]])


def _ids(connection: Connection, number: int) -> Sequence[int]:
    """Return the next ids of events. Only one transaction writes at a time."""
    if connection.dialect.name == "sqlite":
        row = _LAST.run(connection).fetchone()
        last = 0 if row is None else int(row[0])
        return range(last + 1, last + 1 + number)
    return [row[0] for row in _NEXT.run(connection, {"number": number}).fetchall()]


def _row(item: Event) -> Sequence[Any]:
    return (
        item.id,
        item.type,
        item.run,
        item.attempt,
        item.project,
        item.time,
        item.data,
        item.actor,
        item.origin,
    )
