"""
The runs of one door, the newest first.

Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME = "ix_runs_door_created"


def upgrade() -> None:
    """Add the index that lists of a door walk along."""
    where = sa.text("door IS NOT NULL")
    op.create_index(
        _NAME,
        "runs",
        ["door", "created_at", "number"],
        unique=False,
        sqlite_where=where,
        postgresql_where=where,
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_index(_NAME, table_name="runs")
