"""Sealed files in SQL. The promises are those of `store.base.FileStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import and_, bindparam, delete, insert, select

from physicsrunner.store import schema
from physicsrunner.store.base import Actor, FileRow
from physicsrunner.store.hot import ByKeys, Hot
from physicsrunner.store.rows import Sealed
from physicsrunner.store.sight import Needs
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.wire.live import Event

_FILES: Final = schema.files.c
_OF_ATTEMPT: Final = and_(_FILES.run_id == bindparam("run"), _FILES.attempt == bindparam("attempt"))
_SEALED: Final = select(_FILES.path, _FILES.size, _FILES.sha256).where(_OF_ATTEMPT)
_ALL: Final = Hot(_SEALED)
_BY_PATH: Final = ByKeys(_SEALED, _FILES.path)
_FORGET: Final = Hot(delete(schema.files).where(_OF_ATTEMPT, _FILES.path == bindparam("path")))


class SqlFiles(SqlEvents):
    """The table of sealed files."""

    def seal(
        self,
        files: Mapping[tuple[str, int], Sequence[FileRow]],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
    ) -> None:
        """Keep *files* of attempts (run, number) as sealed, once for each path; write *events*."""

        self._decide(Needs(), lambda work, _: work.changed.seal(Sealed(files, events)), by)

    def unseal(self, run: str, attempt: int, path: str, *, removed_at: float | None = None) -> None:
        """Forget that a file is sealed; with *removed_at* keep the row among the removed files."""
        key = {"run": run, "attempt": attempt}

        def work(transaction: Transaction) -> None:
            connection = transaction.connection
            statement, values = _BY_PATH.of(connection.dialect.name, [path], **key)
            row = statement.run(connection, values).fetchone()
            if row is None:
                return
            _FORGET.run(connection, {**key, "path": path})
            if removed_at is not None:
                removed = {"run_id": run, "attempt": attempt, "removed_at": removed_at}
                connection.execute(insert(schema.removed_files), {**removed, **vars(FileRow(*row))})

        self._write(work)

    def sealed(
        self, run: str, attempt: int, paths: Sequence[str] | None = None
    ) -> dict[str, FileRow]:
        """Return the sealed files of an attempt by path: all, or those of *paths*."""
        key = {"run": run, "attempt": attempt}
        if paths is None:
            rows = self._db.ask(_ALL, key)
        else:
            rows = self._db.ask_by(_BY_PATH, paths, **key) if paths else []
        return {row[0]: FileRow(*row) for row in rows}
