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

from sqlalchemy import JSON, Boolean, Connection, bindparam, select

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
from physicsrunner.store.hot import ByKeys, Hot, Insert, Many, loaded
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
_SEAL: Final = Insert(
    schema.files,
    ("run_id", "attempt", "path", "size", "sha256"),
    "ON CONFLICT (run_id, attempt, path) "
    "DO UPDATE SET size = excluded.size, sha256 = excluded.sha256",
)
_STATES: Final = {state.value: state for state in RunState}


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


def write_changed(connection: Connection, changed: Changed) -> None:
    """Write the rows of all that is known to have changed: one row of a run is written once."""
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run, said in changed.fields.items():
        before = changed.before[run]
        values = {name: v for name, v in said.items() if v != getattr(before, name)}
        if values:
            updates.setdefault(tuple(values), []).append({**values, "the_run": run})
    for names, rows in updates.items():
        _update_runs(names).run(connection, rows)
    bodies: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run, body in changed.bodies.items():
        bodies.setdefault(tuple(body), []).append({**body, "the_run": run})
    for names, rows in bodies.items():
        _update_bodies(names).run(connection, rows)
    _write_attempts(connection, changed)
    _SEAL.rows(connection, [(*key, row.size, row.sha256) for key, row in changed.files.items()])


def _write_attempts(connection: Connection, changed: Changed) -> None:
    new: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    known: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for (run, attempt), said in changed.attempts.items():
        names = tuple(said)
        if "leased_at" in said:
            new.setdefault(names, []).append((run, attempt, *said.values()))
        else:
            row = {**said, "the_run": run, "the_attempt": attempt}
            known.setdefault(names, []).append(row)
    for names, tuples in new.items():
        _upsert_attempts(names).rows(connection, tuples, copied=False)
    for names, rows in known.items():
        _update_attempts(names).run(connection, rows)


def write_attempt(connection: Connection, run: RunSummary, values: Mapping[str, Any]) -> None:
    """Write the row of the run's present attempt, which is new."""
    said = {"state": run.status.value, **values}
    _upsert_attempts(tuple(said)).rows(connection, [(run.id, run.attempt, *said.values())])


@cache
def _update_runs(names: tuple[str, ...]) -> Many:
    return Many(schema.runs, names, {"id": "the_run"})


@cache
def _update_bodies(names: tuple[str, ...]) -> Many:
    return Many(schema.run_bodies, names, {"run_id": "the_run"})


@cache
def _update_attempts(names: tuple[str, ...]) -> Many:
    return Many(schema.attempts, names, {"run_id": "the_run", "attempt": "the_attempt"})


@cache
def _upsert_attempts(names: tuple[str, ...]) -> Insert:
    new = ", ".join(f"{name} = excluded.{name}" for name in names)
    instead = f"ON CONFLICT (run_id, attempt) DO UPDATE SET {new}"
    return Insert(schema.attempts, ("run_id", "attempt", *names), instead)
