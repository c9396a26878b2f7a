"""
The runs of one door, the newest first: all of them, or those of a state.

Revision 0003. A run that was asked to stop is cancelled for some doors: hence that column, and a
kind of count.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_runs_door_created": ["door", "created_at", "number"],
    "ix_runs_door_status": ["door", "cancel_requested", "status", "created_at", "number"],
}
_COUNT = """
INSERT INTO run_counts (kind, key, status, runs)
SELECT 'asked', door, status, count(*) FROM runs
WHERE door IS NOT NULL AND cancel_requested GROUP BY door, status
"""


def upgrade() -> None:
    """Add the indexes that lists of a door walk along, and count who was asked to stop."""
    where = sa.text("door IS NOT NULL")
    for name, columns in _INDEXES.items():
        op.create_index(
            name, "runs", columns, unique=False, sqlite_where=where, postgresql_where=where
        )
    op.execute(_COUNT)


def downgrade() -> None:
    """Take them away."""
    for name in _INDEXES:
        op.drop_index(name, table_name="runs")
    op.execute("DELETE FROM run_counts WHERE kind = 'asked'")
