"""
The studies of all projects, the newest first.

Revision 0004. The list without a project sorted the whole table.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEX = "ix_studies_created_at"


def upgrade() -> None:
    """Add the index that the list walks along."""
    op.create_index(_INDEX, "studies", ["created_at"], unique=False)


def downgrade() -> None:
    """Take it away."""
    op.drop_index(_INDEX, table_name="studies")
