"""
One piece of work inside a write transaction, and what it leaves to do before it is stored.

Promises: events, counts and changed runs of a work that fails are forgotten with it. A run that is
changed more than once is written once (`sql_rows.write_changed`). Nothing here commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection

from physicsrunner.core.run import RunSummary
from physicsrunner.store import schema
from physicsrunner.store.database import Database
from physicsrunner.store.hot import Insert, raw
from physicsrunner.store.rows import Actor, Change, FileRow, Sealed
from physicsrunner.store.sql_counts import Moves, moves
from physicsrunner.wire.live import Event, event_with

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
_values: Final = attrgetter(
    "id", "type", "run", "attempt", "project", "time", "data", "actor", "origin"
)
_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
#: Asked of PostgreSQL as a transaction begins: it costs no trip of its own.
LAST_EVENT: Final = "SELECT last_value FROM events_id_seq WHERE is_called"


class EventIds:
    """
    The ids of events that one transaction writes, asked for once.

    Only one transaction writes at a time, so nobody else takes ids meanwhile; those of works that
    were undone are never given.
    """

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._last: int | None = None  # before the transaction
        self.taken = 0  #: of this transaction

    def take(self, number: int) -> range:
        """Return the next ids."""
        first = self._before() + self.taken + 1
        self.taken += number
        return range(first, first + number)

    def keep(self) -> None:
        """Tell the database which ids are taken, before the transaction is stored."""
        if self.taken and self._connection.dialect.name == "postgresql":
            last = self._before() + self.taken
            raw(self._connection).execute("SELECT setval('events_id_seq', %s)", [last])

    def _before(self) -> int:
        """Return the last id that other transactions have taken."""
        if self._last is None:
            if self._database.dialect == "sqlite":
                row = raw(self._connection).execute(_LAST).fetchone()
            else:
                row = self._database.answer()
            self._last = 0 if row is None else int(row[0])
        return self._last


@dataclass
class Changed:
    """What one caller's work has changed in runs and files, written when all of it is known."""

    before: dict[str, RunSummary] = field(default_factory=dict)  #: as the table has them, by id
    runs: dict[str, RunSummary] = field(default_factory=dict)  #: as they are now
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)  #: of runs
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    files: dict[tuple[str, int, str], FileRow] = field(default_factory=dict)  #: sealed, by path
    events: list[Event] = field(default_factory=list)

    def note(self, before: RunSummary, after: RunSummary, change: Change) -> None:
        """Keep that *change* makes *before* what *after* is."""
        run = before.id
        self.before.setdefault(run, before)
        self.runs[run] = after
        self.fields.setdefault(run, {}).update(change.run)
        if change.body:
            self.bodies.setdefault(run, {}).update(change.body)
        if change.attempt:
            said = self.attempts.setdefault((run, after.attempt), {})
            if "leased_at" in change.attempt:
                said["state"] = after.status.value
            said.update(change.attempt)
        self.events += change.events

    def seal(self, sealed: Sealed) -> None:
        """Keep that files are sealed."""
        for key, rows in sealed.files.items():
            self.files.update(((*key, row.path), row) for row in rows)
        self.events += sealed.events

    def add(self, later: Changed) -> None:
        """Keep what a work has changed that came after all that is known here."""
        for run, before in later.before.items():
            self.before.setdefault(run, before)
        self.runs.update(later.runs)
        for run, said in later.fields.items():
            self.fields.setdefault(run, {}).update(said)
        for run, said in later.bodies.items():
            self.bodies.setdefault(run, {}).update(said)
        for key, said in later.attempts.items():
            self.attempts.setdefault(key, {}).update(said)
        self.files.update(later.files)


class Transaction:
    """A connection in a write transaction, and what one caller's work has done with it."""

    def __init__(
        self,
        connection: Connection,
        ids: EventIds,
        by: Actor | None = None,
        pending: Moves | None = None,
    ) -> None:
        self.connection = connection
        self.ids = ids
        self.by = by
        self.pending: Moves = Counter() if pending is None else pending
        # ^ what earlier works of the same transaction changed, and is not in the table yet
        self.told: list[Event] = []  #: events written, with their ids
        self.moves: Moves = Counter()  #: how the numbers of runs change
        self.changed = Changed()  #: runs that are not written yet

    def moved(self, before: RunSummary | None, after: RunSummary | None) -> None:
        """Count a run where it is now and no longer where it was."""
        moves(before, after, self.moves)

    def write_events(self, events: Sequence[Event], runs: Sequence[int] = ()) -> None:
        """Write *events* as caused by whoever asked; *runs*: the numbers of their new runs."""
        if events:
            first = len(self.told)
            self.say(events, runs)
            write_said(self.connection, islice(self.told, first, None))

    def say(self, events: Sequence[Event], runs: Sequence[int] = ()) -> None:
        """Give *events* their ids and who asked; `write_said` writes what was `told`."""
        if not events:
            return
        who = {} if self.by is None else {"actor": self.by.name, "origin": self.by.origin}
        for place, (number, item) in enumerate(
            zip(self.ids.take(len(events)), events, strict=True)
        ):
            data = {**item.data, "number": runs[place]} if runs else item.data
            self.told.append(event_with(item, id=number, data=data, **who))


def write_said(connection: Connection, events: Iterable[Event], *, copied: bool = True) -> None:
    """Write events that have ids; *copied* as in `Insert.rows`."""
    _INSERT.rows(connection, map(_values, events), copied=copied)
