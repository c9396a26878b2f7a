"""Uploaded inputs in SQL. The promises are those of `store.uploads.UploadStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, Text, cast, delete, insert, select

from physicsrunner.store import schema
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.wire.live import Event

_UPLOADS: Final = schema.uploads.c
_RUNS: Final = schema.runs.c
_INPUTS: Final = schema.run_bodies.c.inputs


class SqlUploads(SqlEvents):
    """The tables of uploads."""

    def add_upload(self, sha256: str, size: int, told: Event, *, by: Actor) -> None:
        """Keep that *by* has sent an input, and write *told*; a repeat changes nothing."""

        def work(transaction: Transaction) -> None:
            connection, owner = transaction.connection, by.name
            if connection.execute(_upload(sha256)).first() is None:
                values = {"size": size, "created_by": owner, "created_at": told.time}
                connection.execute(insert(schema.uploads), {"sha256": sha256, **values})
            if connection.execute(_owned(sha256, owner)).first() is None:
                connection.execute(insert(schema.upload_owners), {"sha256": sha256, "owner": owner})
                transaction.write_events([told])

        self._write(work, by)

    def upload(self, sha256: str) -> int | None:
        """Return the size in bytes of an uploaded input; None if there is none."""
        with self._db.read() as connection:
            size = connection.execute(_upload(sha256)).scalar()
        return None if size is None else int(size)

    def sent_input(self, sha256: str, user: str) -> bool:
        """Say whether *user* has sent the input of that content."""
        with self._db.read() as connection:
            return connection.execute(_owned(sha256, user)).first() is not None

    def uploads_before(self, before: float, after: str, limit: int) -> Mapping[str, int]:
        """Return inputs that were first sent before *before*: SHA-256 over *after* -> size."""
        query = (
            select(_UPLOADS.sha256, _UPLOADS.size)
            .where(_UPLOADS.created_at < before, _UPLOADS.sha256 > after)
            .order_by(_UPLOADS.sha256)
            .limit(limit)
        )
        with self._db.read() as connection:
            return {key: int(size) for key, size in connection.execute(query)}

    def inputs_named(self, after: int, limit: int) -> tuple[set[str], int | None]:
        """Return the inputs that runs over number *after* name, and up to which number that is."""
        query = (
            select(_RUNS.number, _INPUTS)
            .join_from(schema.runs, schema.run_bodies)
            .where(_RUNS.number > after, cast(_INPUTS, Text) != "[]")
            .order_by(_RUNS.number)
            .limit(limit)
        )
        with self._db.read() as connection:
            found = connection.execute(query).all()
        named = {item["sha256"] for _, inputs in found for item in inputs}
        return named, found[-1][0] if len(found) == limit else None

    def remove_uploads(self, keys: Sequence[str], events: Sequence[Event]) -> None:
        """Forget inputs, and who has sent them; write *events*."""

        def work(transaction: Transaction) -> None:
            for table in (schema.upload_owners, schema.uploads):
                transaction.connection.execute(delete(table).where(table.c.sha256.in_(keys)))
            transaction.write_events(list(events))

        self._write(work, None)


def _owned(sha256: str, owner: str) -> Select[Any]:
    table = schema.upload_owners.c
    return select(table.sha256).where(table.sha256 == sha256, table.owner == owner)


def _upload(sha256: str) -> Select[Any]:
    return select(schema.uploads.c.size).where(schema.uploads.c.sha256 == sha256)
