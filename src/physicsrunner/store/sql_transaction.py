"""
One piece of work inside a write transaction, and what it leaves to do before it is stored.

Promises: events and counts of a work that fails are forgotten with it. Nothing here commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from physicsrunner.core.run import RunSummary
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot, encoder
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_counts import Moves, moves
from physicsrunner.wire.live import Event

_EVENTS: Final = schema.events.c
_FIELDS: Final = (
    "type",
    "run_id",
    "attempt",
    "project_id",
    "time",
    "data",
    "actor",
    "origin",
)
_INSERT: Final = Hot(schema.events.insert().inline(), _FIELDS)
_INSERT_AND_TELL: Final = Hot(schema.events.insert().returning(schema.events.c.id), _FIELDS)
_MANY: Final = 50  # from here on one statement for all
_encoded: Final = encoder([_EVENTS[name] for name in _FIELDS])


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
    stamped = [item if by is None else _stamped(item, by) for item in events]
    rows = [_encoded(_row(item)) for item in stamped]
    if connection.dialect.name == "sqlite":
        ids = [_INSERT.run(connection, row).lastrowid for row in rows]
    elif len(rows) < _MANY:
        ids = [_INSERT_AND_TELL.run(connection, row).fetchone()[0] for row in rows]
    else:
        answer = connection.execute(
            schema.events.insert().returning(_EVENTS.id, sort_by_parameter_order=True),
            [_row(item) for item in stamped],
        )
        ids = list(answer.scalars())
    told += [replace(item, id=number) for item, number in zip(stamped, ids, strict=True)]


def _stamped(item: Event, by: Actor) -> Event:
    return replace(item, actor=by.name, origin=by.origin)


def _row(item: Event) -> Mapping[str, Any]:
    return {
        "type": item.type,
        "run_id": item.run,
        "attempt": item.attempt,
        "project_id": item.project,
        "time": item.time,
        "data": item.data,
        "actor": item.actor,
        "origin": item.origin,
    }
