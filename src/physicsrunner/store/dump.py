"""
All tables as text: one file of JSON lines a table, the same for every database.

Promises: a dump is one state of the database, taken while others write; what is loaded is what was
dumped, whatever the two databases are; ids that were given before are not given again afterwards.
Only a database without a row is loaded into.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, func, insert, select, text

from physicsrunner.errors import Conflict, InvalidRequest
from physicsrunner.store import schema
from physicsrunner.store.database import Database

_ROWS: Final = 1_000  # read or written at once
_IDS: Final = "ids.json"


def tables() -> list[Table]:
    """Return all tables, those that others refer to first."""
    return list(schema.METADATA.sorted_tables)


def dump(database: Database, folder: Path) -> dict[str, int]:
    """Write all tables into *folder*; return the number of rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with database.read() as connection:
        for table in tables():
            with (folder / f"{table.name}.jsonl").open("w", encoding="utf-8") as file:
                written[table.name] = 0
                rows = connection.execution_options(yield_per=_ROWS).execute(select(table))
                for row in rows.mappings():
                    file.write(json.dumps(dict(row)) + "\n")
                    written[table.name] += 1
        ids = {table.name: _last_id(connection, table) for table in _counted()}
    (folder / _IDS).write_text(json.dumps(ids), encoding="utf-8")
    return written


def load(database: Database, folder: Path) -> dict[str, int]:
    """
    Read all tables from *folder* into an empty database; return the number of rows of each.

    Raises
    ------
    Conflict
        If the database has rows already.
    InvalidRequest
        If a file of the dump is missing or no dump.
    """
    read = {}
    with database.write() as connection:
        for table in tables():
            if connection.execute(select(func.count()).select_from(table)).scalar():
                raise Conflict(f"the database is not empty: table {table.name} has rows")
        for table in tables():
            read[table.name] = 0
            for rows in _rows(folder / f"{table.name}.jsonl", table):
                connection.execute(insert(table), rows)
                read[table.name] += len(rows)
        ids = json.loads((folder / _IDS).read_text(encoding="utf-8"))
        for table in _counted():
            _continue(connection, table, int(ids.get(table.name) or 0))
    return read


def count(database: Database) -> dict[str, int]:
    """Return the number of rows of each table."""
    with database.read() as connection:
        return {
            table.name: int(
                connection.execute(select(func.count()).select_from(table)).scalar_one()
            )
            for table in tables()
        }


def _rows(path: Path, table: Table) -> Iterator[list[dict[str, Any]]]:
    names = {column.name for column in table.columns}
    try:
        with path.open(encoding="utf-8") as file:
            while lines := list(islice(file, _ROWS)):
                rows: list[Mapping[str, Any]] = [json.loads(line) for line in lines]
                # A column that this release no longer has is left out; a new one has its default.
                yield [{k: v for k, v in row.items() if k in names} for row in rows]
    except FileNotFoundError:
        return  # a table that did not exist yet when the dump was made
    except ValueError as error:
        raise InvalidRequest(f"{path} is no dump of a table: {error}") from None


def _counted() -> list[Table]:
    """Return the tables whose ids the database counts up."""
    return [table for table in tables() if table.autoincrement_column is not None]


def _last_id(connection: Connection, table: Table) -> int:
    column = table.autoincrement_column
    assert column is not None  # noqa: S101 - of `_counted`
    highest = connection.execute(select(func.max(column))).scalar() or 0
    if connection.dialect.name == "sqlite":
        if not _has_sequences(connection):
            return int(highest)
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = connection.execute(query, {"name": table.name}).scalar()
        return max(int(highest), int(given or 0))
    name = _sequence(connection, table.name, column.name)
    if name is None:
        return int(highest)
    given = connection.execute(text(f"SELECT last_value FROM {name}")).scalar()  # noqa: S608
    return max(int(highest), int(given or 0))


def _continue(connection: Connection, table: Table, last: int) -> None:
    """Have the next id of *table* be over *last*."""
    column = table.autoincrement_column
    assert column is not None  # noqa: S101 - of `_counted`
    if not last:
        return
    if connection.dialect.name == "sqlite":
        if not table.dialect_options["sqlite"]["autoincrement"]:
            return
        values = {"name": table.name, "last": last}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), values)
        return
    name = _sequence(connection, table.name, column.name)
    if name is not None:
        connection.execute(text("SELECT setval(:name, :last)"), {"name": name, "last": last})


def _sequence(connection: Connection, table: str, column: str) -> str | None:
    """Return the name of PostgreSQL's sequence behind a column."""
    query = text("SELECT pg_get_serial_sequence(:table, :column)")
    found = connection.execute(query, {"table": table, "column": column}).scalar()
    return None if found is None else str(found)


def _has_sequences(connection: Connection) -> bool:
    query = text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
    return connection.execute(query).scalar() is not None
