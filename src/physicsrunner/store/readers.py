"""
Connections for single questions: one statement each, and no transaction around it.

Promises:

- A statement sees one state of the database, as it would in a transaction of its own, and all that
  was stored before it was asked.
- A connection that failed, or that its server has closed, is not used again.

SQLAlchemy's way (a connection of the pool, BEGIN, its own results, ROLLBACK) costs ten times what
most of these questions do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from physicsrunner.store.hot import Hot, raw

_KEPT: Final = 8  # more at once are given back: the pool is for the others too


class Readers:
    """The connections of one database by which single questions are asked. Thread-safe."""

    def __init__(self, engine: Engine, is_gone: Callable[[Any], bool]) -> None:
        self._engine = engine
        self._is_gone = is_gone  # asked of the driver's connection before it is used again
        self._idle: deque[Connection] = deque()
        self._closed = False

    def ask(self, question: Hot, values: Mapping[str, Any] = MappingProxyType({})) -> list[Any]:
        """Carry out a statement that reads; return the driver's rows."""
        connection = self._taken()
        try:
            rows: list[Any] = question.run(connection, values).fetchall()
        except BaseException:
            _drop(connection)
            raise
        if self._closed or len(self._idle) >= _KEPT:
            connection.close()
        else:
            self._idle.append(connection)
        return rows

    def close(self) -> None:
        """Close them; one that is in use is closed when it has its answer."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _taken(self) -> Connection:
        while self._idle:
            with suppress(IndexError):  # somebody else was quicker
                kept = self._idle.pop()
                if not self._is_gone(raw(kept)):
                    return kept
                _drop(kept)
        connection = self._engine.connect()
        if connection.dialect.name == "postgresql":  # SQLite's begin nothing by themselves
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        return connection


def _drop(connection: Connection) -> None:
    with suppress(DBAPIError):
        connection.invalidate()
        connection.close()
