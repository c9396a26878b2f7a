"""
Statements that are carried out thousands of times a second: compiled once, run by the driver.

Promises: what is run is what SQLAlchemy Core made of the statement for this database. Rows come
back as the driver gives them.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    Text,
    bindparam,
    column,
    func,
    select,
    update,
)

from physicsrunner.store.documents import insert_of, update_of

_PARAMETERS: Final = 990  #: of one statement; the oldest SQLite takes 999
_ODD: Final = 12  #: up to so many rows there is a statement for each number of them
_DOCUMENT: Final = 64  #: rows of one; each may be compared with each key
COPIED: Final = 50  #: from so many rows on PostgreSQL is given them by COPY, not in a pipeline
_EMPTY: Final[Mapping[type, str]] = {dict: "{}", list: "[]"}
_load: Final = json.JSONDecoder().decode


def _dumper() -> Callable[[Any], str]:
    """Return what writes documents: without making an encoder for each, where that can be had."""
    slow = json.JSONEncoder()
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    text: Any = getattr(json.encoder, "encode_basestring_ascii", None)
    if make is None or text is None:
        return slow.encode
    parts = make(None, slow.default, text, None, ": ", ", ", False, False, True)
    return lambda value: "".join(parts(value, 0))


_dump: Final = _dumper()


@dataclass(frozen=True)
class _Made:
    """A statement for one kind of database."""

    sql: str
    order: tuple[str, ...] | None  #: of its parameters; None: it takes them by name
    fixed: Mapping[str, Any]  #: parameters that are always the same

    @cached_property
    def bound(self) -> Callable[[Mapping[str, Any]], Any]:
        """Return the function that makes the parameters what the driver takes."""
        fixed, order = self.fixed, self.order
        if order is None:
            return (lambda values: {**fixed, **values}) if fixed else (lambda values: values)
        if fixed or len(order) < 2:
            return lambda values: [fixed[n] if n in fixed else values[n] for n in order]
        return itemgetter(*order)


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

    def send(
        self, connection: Connection, values: Mapping[str, Any] = MappingProxyType({})
    ) -> Callable[[], list[Any]]:
        """Ask among statements that are sent together; return what gives the rows later."""
        cursor = self.run(connection, values)
        if connection.dialect.name == "sqlite":
            # Read at once: a statement that is not at its end would be compiled once more.
            rows = cursor.fetchall()
            return lambda: rows
        later: Callable[[], list[Any]] = cursor.fetchall
        return later

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Carry it out for each of *rows*."""
        if len(rows) == 1:
            self.run(connection, rows[0])
        elif rows:
            made = self._for(connection)
            _all_of(connection, made.sql, list(map(made.bound, rows)))

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


class Many:
    """An UPDATE of many rows, each of which has the same columns and is found by its *keys*."""

    def __init__(self, table: Table, names: Sequence[str], keys: Mapping[str, str]) -> None:
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        same = [table.c[name] == bindparam(key) for name, key in keys.items()]
        self._one = Hot(update(table).where(*same).values(values))
        self._encode = encoder([table.c[name] for name in names])
        self._key = next(iter(keys.values()))
        self._of_document = update_of(table, names, keys)

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Change *rows*, whose documents (JSON) are still values."""
        if len(rows) > 1 and connection.dialect.name == "postgresql":
            for start in range(0, len(rows), _DOCUMENT):
                some = rows[start : start + _DOCUMENT]
                keys = [row[self._key] for row in some]
                raw(connection).execute(self._of_document, [_dump(some), keys])
        else:
            self._one.run_many(connection, list(map(self._encode, rows)))


class ByKeys:
    """A SELECT of those rows whose *key*, a text, is one of many: all keys are one parameter."""

    def __init__(self, query: Select[Any], key: ColumnElement[Any]) -> None:
        keys = func.json_each(bindparam("keys"))
        self._one = Hot(query.where(key == bindparam("key")))
        self._of_json = Hot(query.where(key.in_(select(column("value")).select_from(keys))))
        self._of_array = Hot(query.where(key == func.any(bindparam("keys", type_=ARRAY(Text)))))

    def of(self, dialect: str, keys: Iterable[str], **others: Any) -> tuple[Hot, Mapping[str, Any]]:
        """Return the statement for these keys, and its parameters."""
        several = list(dict.fromkeys(keys))
        if len(several) == 1:
            return self._one, {"key": several[0], **others}
        if dialect == "sqlite":
            # It ends a text at its first zero byte when it reads JSON, and would find another key.
            text = json.dumps([key for key in several if "\0" not in key], ensure_ascii=False)
            return self._of_json, {"keys": text, **others}
        return self._of_array, {"keys": several, **others}

    def run(self, connection: Connection, keys: Iterable[str]) -> list[Any]:
        """Return the rows of these keys, as the transaction of *connection* sees them."""
        statement, values = self.of(connection.dialect.name, keys)
        rows: list[Any] = statement.run(connection, values).fetchall()
        return rows

    def send(self, connection: Connection, keys: Iterable[str]) -> Callable[[], list[Any]]:
        """Ask for the rows of these keys as `Hot.send` does."""
        statement, values = self.of(connection.dialect.name, keys)
        return statement.send(connection, values)


class Insert:
    """Adds rows of some columns, given as tuples of what the driver takes."""

    def __init__(self, table: Table, names: Sequence[str], instead: str = "") -> None:
        into = f"{table.name} ({', '.join(names)})"
        self._copy = None if instead else f"COPY {into} FROM STDIN"
        self._into, self._instead = into, instead
        self._names = tuple(names)
        self._of_document = insert_of(table, names, instead)
        self._row = f"({', '.join('?' * len(names))})"
        self._together = max(1, _PARAMETERS // len(names))  # rows in one statement, on SQLite
        self._by_size: dict[tuple[str, int], str] = {}
        columns = [table.c[name] for name in names]
        self._places = [n for n, column in enumerate(columns) if isinstance(column.type, JSON)]

    def rows(
        self, connection: Connection, rows: Iterable[Sequence[Any]], *, copied: bool = True
    ) -> None:
        """
        Add *rows*, whose documents (JSON) are still values.

        *copied*: many of them by COPY, which is no statement to be sent together with others.
        """
        every = list(rows)
        dialect = connection.dialect.name
        if dialect == "postgresql" and copied and len(every) >= COPIED and self._copy is not None:
            with raw(connection).cursor() as cursor, cursor.copy(self._copy) as copy:
                for row in map(self._encoded, every):
                    copy.write_row(row)
        elif dialect == "postgresql" and len(every) > 1:
            document = _dump([dict(zip(self._names, row, strict=True)) for row in every])
            raw(connection).execute(self._of_document, [document])
        else:
            self._in_groups(raw(connection), dialect, list(map(self._encoded, every)))

    def _in_groups(self, driver: Any, dialect: str, rows: Sequence[Sequence[Any]]) -> None:
        """Add several rows by one statement: SQLite opens table and indexes once for each."""
        start, left = 0, len(rows)
        while left:
            size = self._together if left >= self._together else min(left, _ODD)
            some = rows[start : start + size]
            driver.execute(self._of(dialect, size), list(chain.from_iterable(some)))
            start, left = start + size, left - size

    def _of(self, dialect: str, size: int) -> str:
        """Return the statement that adds so many rows."""
        made = self._by_size.get((dialect, size))
        if made is None:
            row = self._row if dialect == "sqlite" else self._row.replace("?", "%s")
            rows = ", ".join([row] * size)
            made = f"INSERT INTO {self._into} VALUES {rows} {self._instead}"  # noqa: S608 - names of ours
            self._by_size[dialect, size] = made
        return made

    def _encoded(self, row: Sequence[Any]) -> Sequence[Any]:
        if not self._places:
            return row
        values = list(row)
        for place in self._places:
            value = values[place]
            if value is not None:
                # Most of them are empty.
                values[place] = _dump(value) if value else _EMPTY.get(type(value)) or _dump(value)
        return values


def _all_of(connection: Connection, sql: str, rows: Sequence[Any]) -> None:
    cursor = raw(connection).cursor()
    try:
        cursor.executemany(sql, rows)
    finally:
        cursor.close()


def together(connection: Connection) -> AbstractContextManager[Any]:
    """
    Return a block whose statements are sent without waiting for each other's answers.

    An error is raised where an answer is fetched, or at the end. On SQLite nothing has to travel.
    """
    if connection.dialect.name == "sqlite":
        return nullcontext()
    pipeline: AbstractContextManager[Any] = raw(connection).pipeline()
    return pipeline


def raw(connection: Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.driver_connection


def dumped(value: Any) -> str | None:
    """Return a document as it is stored."""
    return None if value is None else _dump(value)


def loaded_bytes(data: str | bytes) -> Any:
    """Return the document of a text as PostgreSQL sends it; most of them are empty."""
    if data == b"[]":
        return []
    return _load(data.decode() if isinstance(data, bytes) else data)


def loaded(text: str) -> Any:
    """Return the document of a text that is stored."""
    if text == "[]":
        return []
    return None if text == "null" else _load(text)


def encoder(columns: Sequence[Column[Any]]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function that makes values of *columns* what the driver takes."""
    as_json = frozenset(column.name for column in columns if isinstance(column.type, JSON))

    def encode(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: dumped(value) if name in as_json else value for name, value in values.items()}

    return encode
