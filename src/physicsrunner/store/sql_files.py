"""Sealed files in SQL. The promises are those of `store.base.FileStore`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from physicsrunner.store import schema
from physicsrunner.store.base import Actor, FileRow
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.wire.live import Event

_FILES: Final = schema.files
_CHUNK: Final = 400  # names in one IN (...)


class SqlFiles(SqlEvents):
    """The table of sealed files."""

    def seal(
        self,
        run: str,
        attempt: int,
        files: Sequence[FileRow],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
    ) -> None:
        """Keep *files* as sealed, in place of rows of the same paths, and write *events*."""

        def work(transaction: Transaction) -> None:
            connection = transaction.connection
            paths = [row.path for row in files]
            present = _sealed(connection, run, attempt, paths)
            for some in _chunks(list(present)):
                connection.execute(delete(_FILES).where(_of(run, attempt, some)))
            rows = [
                {
                    "run_id": run,
                    "attempt": attempt,
                    "path": row.path,
                    "size": row.size,
                    "sha256": row.sha256,
                }
                for row in files
            ]
            if rows:
                connection.execute(insert(_FILES), rows)
            transaction.write_events(events)

        self._write(work, by)

    def unseal(self, run: str, attempt: int, path: str, *, removed_at: float | None = None) -> None:
        """Forget that a file is sealed; with *removed_at* keep the row among the removed files."""

        def work(connection: Connection, _told: list[Event]) -> None:
            row = _sealed(connection, run, attempt, [path]).get(path)
            if row is None:
                return
            connection.execute(delete(_FILES).where(_of(run, attempt, [path])))
            if removed_at is not None:
                removed = {"run_id": run, "attempt": attempt, "removed_at": removed_at}
                connection.execute(insert(schema.removed_files), {**removed, **vars(row)})

        self._transact(work)

    def sealed(
        self, run: str, attempt: int, paths: Sequence[str] | None = None
    ) -> dict[str, FileRow]:
        """Return the sealed files of an attempt by path: all, or those of *paths*."""
        with self._db.read() as connection:
            return _sealed(connection, run, attempt, paths)


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _CHUNK):
        yield paths[start : start + _CHUNK]


def _of(run: str, attempt: int, paths: Sequence[str] | None) -> ColumnElement[bool]:
    table = _FILES.c
    key = and_(table.run_id == run, table.attempt == attempt)
    return key if paths is None else and_(key, table.path.in_(paths))


def _sealed(
    connection: Connection, run: str, attempt: int, paths: Sequence[str] | None
) -> dict[str, FileRow]:
    wanted: list[Sequence[str] | None] = [None] if paths is None else list(_chunks(paths))
    found: dict[str, FileRow] = {}
    for some in wanted:
        query = select(_FILES.c.path, _FILES.c.size, _FILES.c.sha256)
        rows: Any = connection.execute(query.where(_of(run, attempt, some)))
        found.update((row.path, FileRow(row.path, row.size, row.sha256)) for row in rows)
    return found
