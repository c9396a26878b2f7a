"""
The store in a SQL database: SQLite in the embedded server, chosen by URL.

Keeps the promises of `store.base`. What is particular to a database is in `store.database`; the
statements are SQLAlchemy Core and run on PostgreSQL as they are, where ``acquire`` gains
``FOR UPDATE SKIP LOCKED``.
"""

from __future__ import annotations

from physicsrunner.store.base import Listener
from physicsrunner.store.database import Database
from physicsrunner.store.migrate import upgrade
from physicsrunner.store.sql_accounts import SqlAccounts
from physicsrunner.store.sql_agents import SqlAgents
from physicsrunner.store.sql_clock import SqlClock
from physicsrunner.store.sql_files import SqlFiles
from physicsrunner.store.sql_lists import SqlLists
from physicsrunner.store.sql_models import SqlModels
from physicsrunner.store.sql_outbox import SqlOutbox
from physicsrunner.store.sql_queue import SqlQueue
from physicsrunner.store.sql_runs import SqlRuns
from physicsrunner.store.sql_uploads import SqlUploads


class SqlStore(
    SqlRuns,
    SqlQueue,
    SqlLists,
    SqlClock,
    SqlAgents,
    SqlFiles,
    SqlModels,
    SqlUploads,
    SqlOutbox,
    SqlAccounts,
):
    """All tables of one database."""

    def __init__(self, url: str) -> None:
        super().__init__(Database(url))
        try:
            upgrade(self._db)
        except BaseException:
            self._db.close()  # nobody has a store to close
            raise

    @property
    def database(self) -> Database:
        """The database itself, for whoever looks after it."""
        return self._db

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with every batch of stored events, in order."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Close all connections."""
        self._db.close()
