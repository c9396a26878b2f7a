"""
Alembic's way in. It works on the connection and in the transaction that `store.migrate` opened.

Run by Alembic, never imported.
"""

from __future__ import annotations

from alembic import context

from physicsrunner.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by making it anew
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
