"""
Rows of runs and attempts: read and written by statements that are compiled once.

Promises: what is not changed is not written, so that its indexes are left alone. It decides nothing
and counts everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot, decoder, encoder
from physicsrunner.store.rows import Change
from physicsrunner.store.sql_counts import COUNTED
from physicsrunner.store.sql_transaction import Transaction

COLUMNS: Final = tuple(field.name for field in fields(RunSummary))
#: The columns of a run in the order of the record's fields.
SELECTED: Final = tuple(schema.runs.c[name] for name in COLUMNS)
_STATUS: Final = COLUMNS.index("status")
_RUNS: Final = schema.runs.c
_BY_ID: Final = Hot(
    select(*SELECTED).where(_RUNS.id == bindparam("run")).with_for_update(of=schema.runs)
)
_decoded: Final = decoder(SELECTED)
_encoded_run: Final = encoder(tuple(_RUNS))
_encoded_body: Final = encoder(tuple(schema.run_bodies.c))
_ATTEMPT: Final = frozenset(schema.attempts.c.keys())


def run_of(row: Sequence[Any]) -> RunSummary:
    """Return the run of a driver's row of `SELECTED`."""
    values = _decoded(row)
    values[_STATUS] = RunState(values[_STATUS])
    return RunSummary(*values)


def summary_of(row: Mapping[Any, Any]) -> RunSummary:
    """Return a row of the table of runs, read by SQLAlchemy, as a record."""
    return RunSummary(**{**row, "status": RunState(row["status"])})


def locked(connection: Connection, run: str) -> RunSummary | None:
    """Return a run and keep others from changing it until the transaction ends."""
    row = _BY_ID.run(connection, {"run": run}).fetchone()
    return None if row is None else run_of(row)


def apply(transaction: Transaction, run: RunSummary, change: Change) -> RunSummary:
    """Write what *change* says of *run*; return the run as it is then."""
    connection = transaction.connection
    changed = RunSummary(**{**vars(run), **change.run})
    values = {
        name: value.value if isinstance(value, RunState) else value
        for name, value in change.run.items()
        if value != getattr(run, name)
    }
    if values:
        statement = _update_run(tuple(values))
        statement.run(connection, {**_encoded_run(values), "the_run": run.id})
    if change.body:
        statement = _update_body(tuple(change.body))
        statement.run(connection, {**_encoded_body(change.body), "the_run": run.id})
    if not COUNTED.isdisjoint(values):
        transaction.moved(run, changed)
    if change.attempt:
        write_attempt(connection, changed, change.attempt)
    transaction.write_events(change.events)
    return changed


def write_attempt(connection: Connection, run: RunSummary, values: Mapping[str, Any]) -> None:
    """Write the row of the run's present attempt."""
    row = {"run_id": run.id, "attempt": run.attempt, "state": run.status.value, **values}
    if "leased_at" in values:
        _upsert_attempt(connection.dialect.name, tuple(row)).run(connection, row)
    else:
        keys = {"the_run": run.id, "the_attempt": run.attempt}
        _update_attempt(tuple(values)).run(connection, {**values, **keys})


@cache
def _update_run(names: tuple[str, ...]) -> Hot:
    values = {name: bindparam(name, type_=_RUNS[name].type) for name in names}
    return Hot(update(schema.runs).where(_RUNS.id == bindparam("the_run")).values(values))


@cache
def _update_body(names: tuple[str, ...]) -> Hot:
    table = schema.run_bodies
    values = {name: bindparam(name, type_=table.c[name].type) for name in names}
    return Hot(update(table).where(table.c.run_id == bindparam("the_run")).values(values))


@cache
def _update_attempt(names: tuple[str, ...]) -> Hot:
    table = schema.attempts
    key = (table.c.run_id == bindparam("the_run"), table.c.attempt == bindparam("the_attempt"))
    return Hot(update(table).where(*key).values({name: bindparam(name) for name in names}))


@cache
def _upsert_attempt(dialect: str, names: tuple[str, ...]) -> Hot:
    make: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = make(schema.attempts).values({name: bindparam(name) for name in names})
    keys = ["run_id", "attempt"]
    new = {name: statement.excluded[name] for name in names if name not in keys}
    return Hot(statement.on_conflict_do_update(index_elements=keys, set_=new))
