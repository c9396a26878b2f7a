"""
The door to the database: connections, transactions, and the one place where its errors are ours.

Promises:

- A write transaction on SQLite begins with ``BEGIN IMMEDIATE``: it never fails half-way because
  another writer came first. Writers of this process queue at a lock, so that none of them sleeps
  in SQLite's busy loop; writers of other processes are waited for up to 10 s.
- ``synchronous=FULL`` with a write-ahead log: when a write returns it survives a power cut. That is
  dearer than ``NORMAL`` by one flush for each transaction; a runner that is told "sealed" or
  "completed" may delete its own copy, so an answer that power can take back would lose data.
- "locked" becomes `ServerUnavailable`, "full" becomes `StorageFull`; both are retryable. Text that
  is not Unicode and numbers over 64 bits become `InvalidRequest`.

SQLite's files belong on a local disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from physicsrunner.errors import (
    InvalidRequest,
    PhysicsRunnerError,
    ServerUnavailable,
    StorageFull,
)

BUSY_MS: Final = 10_000
_FULL: Final = ("disk is full", "no space left", "disk quota", "could not extend")
# ENOSPC reaches SQLite's log and index files as an I/O error.
_DOWN: Final = ("locked", "busy", "disk i/o error", "unable to open", "readonly database")


class Database:
    """One database by its URL."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writer = threading.RLock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads: one state of the database throughout."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; it is stored when the block ends, undone if it raises."""
        with self.writing(), _translated(), self.engine.connect() as connection:
            writing = connection.execution_options(physicsrunner_write=True)
            with writing.begin():
                yield writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold this process's turn to write: what is done after `write` keeps its order."""
        with self._writer:
            yield

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=False, json_serializer=None)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(dbapi_connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: we say IMMEDIATE where we write.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("physicsrunner_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PhysicsRunnerError:
        raise
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidRequest(f"a text or a number that cannot be stored: {error}") from None
    except DBAPIError as error:
        text = str(error.orig).lower()
        if any(word in text for word in _FULL):
            raise StorageFull(f"the database cannot grow: {error.orig}") from error
        if isinstance(error, OperationalError) or any(word in text for word in _DOWN):
            raise ServerUnavailable(f"the database does not answer: {error.orig}") from error
        raise
