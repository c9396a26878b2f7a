"""
Rows of runs and attempts: read and written by statements that are compiled once.

Promises: what is not changed is not written, so that its indexes are left alone. It decides nothing
and counts everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import JSON, Boolean, Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from physicsrunner.core.run import (
    BODY_FIELDS,
    RunRecord,
    RunSummary,
    altered,
    record_from,
    summary_from,
)
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import ByKeys, Hot, encoder, loaded
from physicsrunner.store.rows import Change
from physicsrunner.store.sql_counts import COUNTED
from physicsrunner.store.sql_transaction import Changed, Transaction

COLUMNS: Final = tuple(field.name for field in fields(RunSummary))
#: The columns of a run in the order of the record's fields.
SELECTED: Final = tuple(schema.runs.c[name] for name in COLUMNS)
_RUNS: Final = schema.runs.c
_FLAGS: Final = tuple(name for name in COLUMNS if isinstance(_RUNS[name].type, Boolean))
_DOCUMENTS: Final = tuple(name for name in COLUMNS if isinstance(_RUNS[name].type, JSON))
_BODIES: Final = [schema.run_bodies.c[name] for name in BODY_FIELDS]
_RECORDS: Final = select(*SELECTED, *_BODIES).join(schema.run_bodies)
# Without FOR UPDATE: whoever writes is alone, on every database.
BY_ID: Final = ByKeys(select(*SELECTED), _RUNS.id)
BY_NUMBER: Final = Hot(select(*SELECTED).where(_RUNS.number == bindparam("number")))
RECORDS_BY_ID: Final = ByKeys(_RECORDS, _RUNS.id)
RECORD_BY_NUMBER: Final = Hot(_RECORDS.where(_RUNS.number == bindparam("number")))
_STATES: Final = {state.value: state for state in RunState}
_encoded_run: Final = encoder(tuple(_RUNS))
_encoded_body: Final = encoder(tuple(schema.run_bodies.c))
_ATTEMPT: Final = frozenset(schema.attempts.c.keys())


def run_of(row: Sequence[Any]) -> RunSummary:
    """Return the run of a driver's row of `SELECTED`."""
    return summary_from(_values(row))


def record_of(row: Sequence[Any]) -> RunRecord:
    """Return the run of a driver's row of `SELECTED` and its body."""
    values = _values(row[: len(COLUMNS)])
    for name, value in zip(BODY_FIELDS, row[len(COLUMNS) :], strict=True):
        values[name] = loaded(value) if isinstance(value, str) else value
    return record_from(values)


def _values(row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(COLUMNS, row, strict=True))
    for name in _FLAGS:
        values[name] = bool(values[name])
    for name in _DOCUMENTS:
        value = values[name]
        if isinstance(value, str):  # PostgreSQL's driver has read it already
            values[name] = loaded(value)
    values["status"] = _STATES[values["status"]]
    return values


def summary_of(row: Mapping[Any, Any]) -> RunSummary:
    """Return a row of the table of runs, read by SQLAlchemy, as a record."""
    return RunSummary(**{**row, "status": RunState(row["status"])})


def present(connection: Connection, runs: Iterable[str]) -> dict[str, RunSummary]:
    """Return those of *runs* that there are, by id. Nobody else writes until the end."""
    found = [run_of(row) for row in BY_ID.run(connection, runs)]
    return {run.id: run for run in found}


def apply(transaction: Transaction, run: RunSummary, change: Change) -> RunSummary:
    """Return *run* as *change* makes it, and keep that it is to be written (`write_changed`)."""
    changed = altered(run, change.run)
    transaction.changed.note(run, changed, change)
    if not COUNTED.isdisjoint(change.run):
        transaction.moved(run, changed)
    return changed


def write_changed(transaction: Transaction) -> None:
    """Write the rows of all that `apply` was given: one row of a run is written once."""
    changed = transaction.changed
    if not changed.before:
        return
    connection = transaction.connection
    updates: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run, said in changed.fields.items():
        before = changed.before[run]
        values = {name: v for name, v in said.items() if v != getattr(before, name)}
        if values:
            updates.setdefault(tuple(values), []).append({**_encoded_run(values), "the_run": run})
    for names, rows in updates.items():
        _update_run(names).run_many(connection, rows)
    for run, body in changed.bodies.items():
        _update_body(tuple(body)).run(connection, {**_encoded_body(body), "the_run": run})
    _write_attempts(connection, changed)


def _write_attempts(connection: Connection, changed: Changed) -> None:
    many: dict[Hot, list[Mapping[str, Any]]] = {}
    for (run, attempt), said in changed.attempts.items():
        state = changed.runs[run].status.value
        statement, row = _attempt_row(connection, run, attempt, state, said)
        many.setdefault(statement, []).append(row)
    for statement, rows in many.items():
        statement.run_many(connection, rows)


def write_attempt(connection: Connection, run: RunSummary, values: Mapping[str, Any]) -> None:
    """Write the row of the run's present attempt."""
    state = run.status.value
    statement, row = _attempt_row(connection, run.id, run.attempt, state, values)
    statement.run(connection, row)


def _attempt_row(
    connection: Connection, run: str, attempt: int, state: str, values: Mapping[str, Any]
) -> tuple[Hot, Mapping[str, Any]]:
    if "leased_at" in values:
        row = {"run_id": run, "attempt": attempt, "state": state, **values}
        return _upsert_attempt(connection.dialect.name, tuple(row)), row
    keys = {"the_run": run, "the_attempt": attempt}
    return _update_attempt(tuple(values)), {**values, **keys}


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
