"""
The door to the database: connections, transactions, and the one place where its errors are ours.

Promises:

- The URL chooses: ``sqlite:///file`` or ``postgresql://user@host/name`` (psycopg 3).
- One transaction writes at a time, of this process and of any other: on SQLite it begins with
  ``BEGIN IMMEDIATE``, on PostgreSQL with an advisory lock. So it never fails half-way because
  another writer came first, nobody waits for anybody in a circle, and ids of events become visible
  in ascending order.
- When a write returns it survives a power cut: ``synchronous=FULL`` with a write-ahead log on
  SQLite, ``synchronous_commit=on`` on PostgreSQL. A runner that is told "sealed" or "completed" may
  delete its own copy, so an answer that power can take back would lose data.
- A database that was killed and is back is used again with the next call.
- "locked", "refused" and "gone" become `ServerUnavailable`, "full" becomes `StorageFull`; both are
  retryable. What no database can hold becomes `InvalidRequest`.

SQLite's files belong on a local disk.
"""

from __future__ import annotations

import select as polling
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from physicsrunner.errors import (
    ConfigError,
    InvalidRequest,
    MissingExtra,
    PhysicsRunnerError,
    ServerUnavailable,
    StorageFull,
)
from physicsrunner.store.hot import ByKeys, Hot, loaded_bytes, raw, together
from physicsrunner.store.readers import Readers

BUSY_MS: Final = 10_000
CONNECT_S: Final = 10
_OPENED_S: Final = 0.005  #: after this a file that others open is asked again
LOG_PAGES: Final = 4000
WRITERS: Final = 7_231_909_001  #: the advisory lock of whoever writes, on PostgreSQL
_LOCK: Final = f"SELECT pg_advisory_xact_lock({WRITERS})"
_WITHOUT: Final = (
    *("enable_seqscan", "enable_bitmapscan", "enable_sort"),
    *("enable_hashjoin", "enable_mergejoin", "jit"),
)
_IN_TRANSACTION: Final = 2  # as libpq counts its states
_FULL: Final = ("disk is full", "no space left", "disk quota", "could not extend")
# ENOSPC reaches SQLite's log and index files as an I/O error.
_DOWN: Final = ("locked", "busy", "disk i/o error", "unable to open", "readonly database")
_GONE: Final = ("08", "57P", "53", "40", "55P")  # classes of PostgreSQL's errors that pass


class Database:
    """One database by its URL."""

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.engine = _engine(self.url)
        self.dialect = self.engine.dialect.name
        self._snapshot = self.engine
        if self.dialect == "postgresql":
            self._snapshot = self.engine.execution_options(isolation_level="REPEATABLE READ")
        self._writer = threading.Lock()
        self._writes: Connection | None = None  # kept open; begun and ended by the driver
        self._begun: Any = None  # the cursors of BEGIN
        self._ended: Any = None  # and of COMMIT, of the transaction that writes
        self._readers = Readers(self.engine, self._is_gone)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads: one state of the database throughout."""
        with self.translated(), self._snapshot.connect() as connection:
            yield connection

    def ask(self, question: Hot, values: Mapping[str, Any] = MappingProxyType({})) -> list[Any]:
        """Carry out one statement that reads; return the driver's rows. No transaction is begun."""
        with self.translated():
            return self._readers.ask(question, values)

    def ask_by(self, question: ByKeys, keys: Iterable[str], **others: Any) -> list[Any]:
        """Return the rows of these keys as `ask` does."""
        return self.ask(*question.of(self.dialect, keys, **others))

    @contextmanager
    def write(
        self, question: str = "", ask: Callable[[Connection], None] | None = None
    ) -> Iterator[Connection]:
        """
        Open a transaction that writes; it is stored when the block ends, undone if it raises.

        PostgreSQL is asked *question* on the way in: `answer` has what it says. *ask* sends more
        questions with it, when nobody else writes any more.
        """
        # In this process at a lock, so that nobody sleeps in SQLite's busy loop.
        with self._writer, self.translated():
            connection = self._pinned()
            driver: Any = raw(connection)
            try:
                self._ended = None
                self._begin(connection, question, ask)
                yield connection
                self.commit(connection)
                if self.dialect == "postgresql" and self._ended.statusmessage != "COMMIT":
                    raise ServerUnavailable("the database undid the transaction at its end")
            except BaseException:
                self._undo(connection, driver)
                raise

    def _begin(
        self, connection: Connection, question: str, ask: Callable[[Connection], None] | None
    ) -> None:
        driver = raw(connection)
        if self.dialect == "sqlite":
            driver.execute("BEGIN IMMEDIATE")
            if ask is not None:
                ask(connection)
        elif ask is None:
            self._begun = driver.execute(f"BEGIN; {_LOCK}; {question}")
        else:
            # One statement each, so that each sees what was stored before we had the lock.
            with together(connection):
                driver.execute("BEGIN")
                driver.execute(_LOCK)
                self._begun = driver.execute(question)
                ask(connection)

    def answer(self) -> Any:
        """Return the row that answers what was asked as the transaction began; None: no row."""
        while self._begun.nextset():
            pass
        return self._begun.fetchone()

    def goes_on(self, connection: Connection) -> bool:
        """Say whether the transaction of the block of `write` is still good. No trip is made."""
        if connection.invalidated:
            return False
        driver = raw(connection)
        if self.dialect == "sqlite":
            return bool(driver.in_transaction)
        return bool(driver.info.transaction_status == _IN_TRANSACTION)

    def back_to(self, connection: Connection, savepoint: str) -> bool:
        """
        Undo what was done since *savepoint*, COMMIT included if it was not carried out.

        False: the database gave up the whole transaction, or is gone.
        """
        if connection.invalidated:
            return False
        try:
            raw(connection).execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
        except self.driver_error:
            return False
        self._ended = None
        return True

    def commit(self, connection: Connection) -> None:
        """
        End the transaction of the block of `write` before the block's end; once.

        Among statements that are sent together it is stored when those have been answered.
        """
        if self._ended is None:
            self._ended = raw(connection).execute("COMMIT")

    def _pinned(self) -> Connection:
        """Return the one connection that writes; the pool would cost more than the statements."""
        kept = self._writes
        if kept is not None and self._is_gone(raw(kept)):
            self._drop()
            kept = None
        if kept is None:
            connection = self.engine.connect()
            kept = self._writes = connection.execution_options(physicsrunner_begun=True)
            if self.dialect == "postgresql":
                raw(kept).autocommit = True  # BEGIN and COMMIT are ours, with no trip of their own
        return kept

    def _undo(self, connection: Connection, driver: Any) -> None:
        try:
            if connection.invalidated:
                self._drop()
            else:
                driver.rollback()
        except self.driver_error:  # the first error says what happened
            self._drop()

    def _drop(self) -> None:
        kept, self._writes = self._writes, None
        if kept is not None:
            with suppress(DBAPIError, self.driver_error):
                if not kept.invalidated:
                    kept.invalidate()
                kept.close()

    @contextmanager
    def alter(self) -> Iterator[Connection]:
        """
        Open a transaction that changes tables.

        SQLite changes a table by making it anew: the rows that refer to the old one must stay.
        """
        with self._writer, self.translated(), self.engine.connect() as connection:
            if self.dialect != "sqlite":
                with self._writing(connection) as writing:
                    yield writing
                return
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with self._writing(connection) as writing:
                    yield writing
                    lost = writing.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                    if lost:
                        raise ConfigError(f"{len(lost)} rows refer to rows that are not there")
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    @contextmanager
    def _writing(self, connection: Connection) -> Iterator[Connection]:
        writing = connection.execution_options(physicsrunner_write=True)
        with writing.begin():
            if self.dialect == "postgresql":
                writing.exec_driver_sql(_LOCK)
            yield writing

    def close(self) -> None:
        """Close all connections."""
        with self._writer:
            self._drop()
        self._readers.close()
        self.engine.dispose()

    def _is_gone(self, driver: Any) -> bool:
        return self.dialect == "postgresql" and (driver.closed or _has_spoken(driver))

    @property
    def driver_error(self) -> type[Exception]:
        """What the driver raises when a statement fails that SQLAlchemy did not run."""
        error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        return error

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the database into ours."""
        try:
            yield
        except PhysicsRunnerError:
            raise
        except (UnicodeEncodeError, OverflowError) as error:
            raise InvalidRequest(f"a text or number that cannot be stored: {error}") from None
        except PoolTimeout as error:
            raise ServerUnavailable("every connection to the database is in use") from error
        except DBAPIError as error:
            raise meaning(error, error.orig) from error
        except self.driver_error as error:  # of a statement run by the driver
            raise meaning(error, error) from error


def meaning(error: Exception, cause: BaseException | None) -> Exception:
    """Return what the driver's error *cause* means to us; *error* itself if it is our own fault."""
    text = str(cause).lower()
    state = str(getattr(cause, "sqlstate", None) or "")
    kinds = {kind.__name__ for kind in type(cause).__mro__}  # drivers name them alike
    if "file is not a database" in text:
        return ConfigError("the database's file is there and is no SQLite database; name another")
    if state == "53100" or any(word in text for word in _FULL):
        return StorageFull(f"the database cannot grow: {cause}")
    if "DataError" in kinds:
        return InvalidRequest(f"a text or number that cannot be stored: {cause}")
    passing = kinds & {"OperationalError", "InterfaceError"}
    if passing or state.startswith(_GONE) or any(word in text for word in _DOWN):
        return ServerUnavailable(f"the database does not answer: {cause}")
    return error


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except Exception as error:
        raise ConfigError(f"the URL of the database cannot be read: {error}") from None
    if url.get_backend_name() in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        raise ConfigError(
            f"a database of the kind {url.drivername} is not supported: "
            "use sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    return url


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None: *url* is of another kind, or lives in memory."""
    parsed = _url(url)
    name = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, pool_size=8, max_overflow=56)
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S}
    try:
        engine = create_engine(url, pool_size=8, max_overflow=24, connect_args=arguments)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"PostgreSQL needs {error.name}: pip install 'physicsrunner[postgres]'"
        ) from None
    event.listen(engine, "connect", _postgres_connect)
    event.listen(engine, "checkout", _postgres_checkout)
    return engine


def _sqlite_connect(dbapi_connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: we say IMMEDIATE where we write.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    _write_ahead(cursor)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16000",
        # A page that many transactions write goes into the database once; the log stays at 16 MB.
        f"wal_autocheckpoint={LOG_PAGES}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    # Two that open a new file at once each read it and want it for themselves: SQLite refuses one
    # without waiting, for two that waited would wait for each other. So the waiting is done here.
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_OPENED_S)
        else:
            return


def _sqlite_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("physicsrunner_begun", False):
        return  # by the driver, before SQLAlchemy heard of it
    write = options.get("physicsrunner_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _postgres_connect(dbapi_connection: Any, _record: Any) -> None:
    from psycopg.types.json import set_json_loads  # installed where there is such a connection

    set_json_loads(loaded_bytes, dbapi_connection)
    # Every statement here is written for an index that has its order, and a join looks its few rows
    # up there. The planner knows nothing of tables that have just been filled, would sort a whole
    # queue or read a whole table, and plans anew for each value.
    with dbapi_connection.cursor() as cursor:
        for setting in _WITHOUT:
            cursor.execute(f"SET {setting} = off")
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute("SET synchronous_commit = on")
    dbapi_connection.commit()


def _postgres_checkout(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
    """Give a connection away only if the server has not closed it meanwhile."""
    if dbapi_connection.closed:
        raise DisconnectionError
    if _has_spoken(dbapi_connection):
        raise DisconnectionError


def _has_spoken(driver: Any) -> bool:
    # A server that speaks unasked says good-bye. It costs no round trip to see that.
    poll = polling.poll()
    poll.register(driver.fileno(), polling.POLLIN)
    return bool(poll.poll(0))
