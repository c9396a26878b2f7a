"""
Statements that are carried out thousands of times a second: compiled once, run by the driver.

Promises: what is run is what SQLAlchemy Core made of the statement for this database. Rows come
back as the driver gives them; a `decoder` makes them what Core would have made of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import JSON, Boolean, Column, Connection, Executable, Table, bindparam, insert

_COPIED: Final = 50  # from so many rows on PostgreSQL is given them by COPY
_EMPTY: Final[Mapping[type, str]] = {dict: "{}", list: "[]"}
_dump: Final = json.JSONEncoder().encode


@dataclass(frozen=True)
class _Made:
    """A statement for one kind of database."""

    sql: str
    order: tuple[str, ...] | None  #: of its parameters; None: it takes them by name
    fixed: Mapping[str, Any]  #: parameters that are always the same

    def bound(self, values: Mapping[str, Any]) -> Any:
        """Return the parameters as the driver takes them."""
        if self.fixed:
            values = {**self.fixed, **values}
        return values if self.order is None else [values[name] for name in self.order]


class Hot:
    """One statement. Parameters are its bound names."""

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Any = statement
        self._columns = columns  #: of an INSERT
        self._made: dict[str, _Made] = {}

    def run(self, connection: Connection, values: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Carry it out in the transaction of *connection*; return the driver's cursor."""
        made = self._for(connection)
        return raw(connection).execute(made.sql, made.bound(values))

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Carry it out for each of *rows*."""
        if rows:
            made = self._for(connection)
            cursor = raw(connection).cursor()
            try:
                cursor.executemany(made.sql, [made.bound(row) for row in rows])
            finally:
                cursor.close()

    def _for(self, connection: Connection) -> _Made:
        name = connection.dialect.name
        made = self._made.get(name)
        if made is None:
            compiled = self._statement.compile(
                dialect=connection.dialect,
                column_keys=self._columns,
            )
            order = None if compiled.positiontup is None else tuple(compiled.positiontup)
            fixed = {key: value for key, value in compiled.params.items() if value is not None}
            made = self._made[name] = _Made(str(compiled), order, fixed)
        return made


class Insert:
    """Adds rows of some columns, given as tuples of what the driver takes."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._copy = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
        self._one = Hot(insert(table).values({name: bindparam(name) for name in names}).inline())
        self._encode = _documents([table.c[name] for name in names])

    def rows(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Add *rows*, whose documents (JSON) are still values."""
        made = [self._encode(row) for row in rows]
        if connection.dialect.name == "postgresql" and len(made) >= _COPIED:
            with raw(connection).cursor() as cursor, cursor.copy(self._copy) as copy:
                for row in made:
                    copy.write_row(row)
        else:
            names = self.names
            self._one.run_many(connection, [dict(zip(names, row, strict=True)) for row in made])


def raw(connection: Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.driver_connection


def dumped(value: Any) -> str | None:
    """Return a document as it is stored."""
    if value is None:
        return None
    # Most of them are empty.
    return _dump(value) if value or not isinstance(value, (list, dict)) else _EMPTY[type(value)]


def _documents(columns: Sequence[Column[Any]]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    places: Final = [n for n, column in enumerate(columns) if isinstance(column.type, JSON)]

    def encode(row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place in places:
            values[place] = dumped(values[place])
        return values

    return encode


def encoder(columns: Sequence[Column[Any]]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function that makes values of *columns* what the driver takes."""
    as_json = frozenset(column.name for column in columns if isinstance(column.type, JSON))

    def encode(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: dumped(value) if name in as_json else value for name, value in values.items()}

    return encode


def decoder(columns: Sequence[Column[Any]]) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that makes the driver's row of *columns* what the code knows."""
    documents: Final = [n for n, column in enumerate(columns) if isinstance(column.type, JSON)]
    flags: Final = [n for n, column in enumerate(columns) if isinstance(column.type, Boolean)]

    def decode(row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for place in documents:
            # PostgreSQL's driver has read it already.
            if isinstance(values[place], str):
                values[place] = json.loads(values[place])
        for place in flags:
            values[place] = bool(values[place])
        return values

    return decode
