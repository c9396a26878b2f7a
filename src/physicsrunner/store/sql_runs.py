"""Runs and attempts in SQL. The promises are those of `store.base.RunStore`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from physicsrunner.core.garbage import uncollected
from physicsrunner.core.run import BODY_FIELDS, RunRecord, RunSummary, summary_from
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import NotFound, PhysicsRunnerError
from physicsrunner.store import schema
from physicsrunner.store.base import Decide
from physicsrunner.store.hot import ByKeys, Hot, Insert
from physicsrunner.store.outbox import Received
from physicsrunner.store.rows import Actor, AttemptRecord, Sealed
from physicsrunner.store.sight import Needs, Sight
from physicsrunner.store.sql_counts import COUNTS, came, counts_of
from physicsrunner.store.sql_events import SqlEvents, Transaction, waits_not
from physicsrunner.store.sql_rows import (
    BY_ID,
    BY_NUMBER,
    COLUMNS,
    RECORD_BY_NUMBER,
    RECORDS_BY_ID,
    apply,
    present,
    record_of,
    run_of,
    write_attempt,
)
from physicsrunner.wire.live import Event

_RUNS: Final = schema.runs.c
_CHUNK: Final = 400  # ids in one IN (...)
_STATUS: Final = COLUMNS.index("status")
_in_order: Final = itemgetter(*COLUMNS)
_INSERT_RUNS: Final = Insert(schema.runs, COLUMNS)
_INSERT_BODIES: Final = Insert(schema.run_bodies, ("run_id", "secrets", *BODY_FIELDS))
_INSERT_TAGS: Final = Insert(schema.run_tags, ("run_id", "tag", "number"))
_SECRETS: Final = Hot(
    select(schema.run_bodies.c.secrets).where(schema.run_bodies.c.run_id == bindparam("run"))
)
_TRIES: Final = select(*(schema.attempts.c[field.name] for field in fields(AttemptRecord))).where(
    schema.attempts.c.run_id == bindparam("run")
)
_ATTEMPT: Final = Hot(_TRIES.where(schema.attempts.c.attempt == bindparam("attempt")))
_ATTEMPTS: Final = Hot(_TRIES.order_by(schema.attempts.c.attempt))
_OF_A_RUN: Final = (
    schema.files,
    schema.removed_files,
    schema.attempts,
    schema.run_tags,
    schema.run_bodies,
)


class SqlRuns(SqlEvents):
    """The table of runs, apart from the queue, the lists and what the clock asks."""

    def add_run(
        self,
        run: RunRecord,
        events: Sequence[Event],
        attempt: Mapping[str, Any] | None = None,
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> tuple[RunRecord, bool]:
        """Keep *run* under the next free number; return it, and whether it is new."""

        def work(transaction: Transaction) -> tuple[RunRecord, bool]:
            connection = transaction.connection
            there = _record(connection, run.id)
            if there is not None:
                return there, False
            _add(transaction, [(run, events)], secrets or {})
            if attempt is not None:
                write_attempt(connection, run, attempt)
            added = _record(connection, run.id)
            if added is None:
                raise NotFound(f"run {run.id} was not kept")
            return added, True

        return self._write(work, by)

    def add_runs(
        self,
        items: Sequence[tuple[RunRecord, Sequence[Event]]],
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> list[tuple[RunSummary, bool]]:
        """Keep many runs as `add_run` keeps one, in their order and in one transaction."""

        def work(transaction: Transaction) -> list[tuple[RunSummary, bool]]:
            known = present(transaction.connection, [run.id for run, _ in items])
            new = {run.id: (run, events) for run, events in items if run.id not in known}
            with uncollected():
                known.update(_add(transaction, list(new.values()), secrets or {}))
            first = set(new)
            answers = []
            for run, _ in items:
                answers.append((known[run.id], run.id in first))
                first.discard(run.id)
            return answers

        return self._write(work, by)

    def delete_runs(
        self,
        ids: Sequence[str],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
        received: Received | None = None,
    ) -> list[str]:
        """Delete runs that have ended and are not pinned; return the ids of those that were."""

        def work(transaction: Transaction) -> list[str]:
            there = present(transaction.connection, ids)
            gone = [
                run
                for run in dict.fromkeys(ids)
                if run in there and there[run].status in TERMINAL and not there[run].pinned
            ]
            for some in chunks(gone):
                for table in _OF_A_RUN:
                    transaction.connection.execute(delete(table).where(table.c.run_id.in_(some)))
                told = delete(schema.events).where(schema.events.c.run_id.in_(some))
                transaction.connection.execute(told.where(*waits_not(received)))
                transaction.connection.execute(delete(schema.runs).where(_RUNS.id.in_(some)))
            for run in gone:
                transaction.moved(there[run], None)
            chosen = set(gone)
            transaction.write_events([item for item in events if item.run in chosen])
            return gone

        return self._write(work, by)

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run without its heavy parts; None if there is none."""
        rows = self._db.ask(*_which(run, BY_ID, BY_NUMBER, self._db.dialect))
        return run_of(rows[0]) if rows else None

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run with everything; None if there is none."""
        rows = self._db.ask(*_which(run, RECORDS_BY_ID, RECORD_BY_NUMBER, self._db.dialect))
        return record_of(rows[0]) if rows else None

    def summaries(self, runs: Sequence[str]) -> dict[str, RunSummary]:
        """Return those of *runs* that there are, by id, without their heavy parts."""
        found = [run_of(row) for row in self._db.ask_by(BY_ID, runs)] if runs else []
        return {run.id: run for run in found}

    def records(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return those of *runs* that there are, by id, with everything."""
        rows = self._db.ask_by(RECORDS_BY_ID, runs) if runs else []
        return {run.id: run for run in map(record_of, rows)}

    def secrets(self, run: str) -> str | None:
        """Return the encrypted secrets of a run; None if it has none."""
        rows = self._db.ask(_SECRETS, {"run": run})
        return None if not rows or rows[0][0] is None else str(rows[0][0])

    def counts(self, kind: str, key: str = "") -> dict[RunState, int]:
        """Return how many runs of each state there are; a state without runs is left out."""
        return counts_of(self._db.ask(COUNTS, {"kind": kind, "key": key}))

    def change(
        self,
        decisions: Sequence[tuple[str, Decide]],
        *,
        by: Actor | None = None,
        sealed: Sealed | None = None,
    ) -> list[RunSummary | PhysicsRunnerError]:
        """Carry out the decisions in order, in one transaction."""

        def work(transaction: Transaction, sight: Sight) -> list[RunSummary | PhysicsRunnerError]:
            if sealed is not None:
                transaction.changed.seal(sealed)
            answers: list[RunSummary | PhysicsRunnerError] = []
            known: dict[str, RunSummary] = {}
            for run, decide in decisions:
                try:
                    present = known.get(run) or sight.run(run)
                    known[run] = _decided(transaction, present, run, decide)
                    answers.append(known[run])
                except PhysicsRunnerError as error:
                    answers.append(error)
            return answers

        return self._decide(Needs(runs=[run for run, _ in decisions]), work, by)

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        rows = self._db.ask(_ATTEMPT, {"run": run, "attempt": attempt})
        return AttemptRecord(*rows[0]) if rows else None

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        return [AttemptRecord(*row) for row in self._db.ask(_ATTEMPTS, {"run": run})]


def chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Iterate over *ids* in parts that fit into one statement."""
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def _add(
    transaction: Transaction,
    items: Sequence[tuple[RunRecord, Sequence[Event]]],
    secrets: Mapping[str, str],
) -> dict[str, RunSummary]:
    if not items:
        return {}
    connection = transaction.connection
    last = _count_up(connection, "run_number", len(items))
    rows, bodies, tags = [], [], []
    events: list[Event] = []
    numbers: list[int] = []
    added: dict[str, RunSummary] = {}
    for number, (run, said) in enumerate(items, last - len(items) + 1):
        columns = {**vars(run), "number": number}
        bodies.append((run.id, secrets.get(run.id), *[columns.pop(name) for name in BODY_FIELDS]))
        added[run.id] = summary_from(columns)
        values = list(_in_order(columns))
        values[_STATUS] = run.status.value
        rows.append(values)
        tags += [(run.id, tag, number) for tag in dict.fromkeys(run.tags)]
        events += said
        numbers += [number] * len(said)
    came(added.values(), transaction.moves)
    _INSERT_RUNS.rows(connection, rows)
    _INSERT_BODIES.rows(connection, bodies)
    _INSERT_TAGS.rows(connection, tags)
    transaction.write_events(events, numbers)
    return added


def _which(
    run: str | int, by_id: ByKeys, by_number: Hot, dialect: str
) -> tuple[Hot, Mapping[str, Any]]:
    """Return the statement that reads one run, by its id or its number, and its parameters."""
    return (by_number, {"number": run}) if isinstance(run, int) else by_id.of(dialect, [run])


def _record(connection: Connection, run: str) -> RunRecord | None:
    rows = RECORDS_BY_ID.run(connection, [run])
    return record_of(rows[0]) if rows else None


def _count_up(connection: Connection, name: str, by: int) -> int:
    """Raise a counter and return it; its row is locked until the transaction ends."""
    table = schema.counters
    raised = connection.execute(
        update(table).where(table.c.name == name).values(value=table.c.value + by)
    )
    if raised.rowcount == 0:
        connection.execute(insert(table), {"name": name, "value": by})
        return by
    query = select(table.c.value).where(table.c.name == name)
    return int(connection.execute(query).scalar_one())


def _decided(
    transaction: Transaction, run: RunSummary | None, named: str, decide: Decide
) -> RunSummary:
    if run is None:
        raise NotFound(f"there is no run {named}")
    change = decide(run)
    return run if change is None else apply(transaction, run, change)
