"""
Giving room in the database back to the disk.

Promises: nothing is lost; a database that is in use is waited for, and refused with an error when
it stays so.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

from sqlalchemy import text

from physicsrunner.store.database import Database

_POSTGRES_SIZE: Final = "SELECT pg_database_size(current_database())"


def vacuum(database: Database) -> tuple[int, int]:
    """Give back room; return the size in bytes before and after."""
    with database.translated():
        if database.dialect == "sqlite":
            return _vacuum_sqlite(database)
        wanted = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with wanted.connect() as connection:
            before = int(connection.execute(text(_POSTGRES_SIZE)).scalar_one())
            connection.execute(text("VACUUM ANALYZE"))
            return before, int(connection.execute(text(_POSTGRES_SIZE)).scalar_one())


def _vacuum_sqlite(database: Database) -> tuple[int, int]:
    # By the driver: SQLAlchemy would begin a transaction, in which there is no vacuum.
    with closing(database.engine.raw_connection()) as connection:
        cursor: Any = connection.cursor()

        def size() -> int:
            return int(
                cursor.execute("PRAGMA page_count").fetchone()[0]
                * cursor.execute("PRAGMA page_size").fetchone()[0]
            )

        before = size()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before, size()
