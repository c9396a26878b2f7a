"""
Giving room in the database back to the disk.

Promises: nothing is lost; a database that is in use is waited for, and refused with an error when
it stays so.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from physicsrunner.store.database import Database


def vacuum(database: Database) -> tuple[int, int]:
    """Give back room; return the size in bytes before and after."""
    with database.translated():
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            before = _size(connection)
            connection.execute(text("VACUUM"))
            if connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            else:
                connection.execute(text("ANALYZE"))
            return before, _size(connection)


def _size(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
