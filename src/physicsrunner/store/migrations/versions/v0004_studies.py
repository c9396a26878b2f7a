"""
The studies of all projects, those of a person, and those of a name, the newest first.

Revision 0004. The list without a project sorted the whole table, and a name was looked for among
the newest.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_studies_created_at": ["created_at"],
    "ix_studies_created_by_created_at": ["created_by", "created_at"],
    "ix_studies_name_created_at": ["name", "created_at"],
}


def upgrade() -> None:
    """Add the indexes that the lists walk along."""
    for name, columns in _INDEXES.items():
        op.create_index(name, "studies", columns, unique=False)


def downgrade() -> None:
    """Take them away."""
    for name in _INDEXES:
        op.drop_index(name, table_name="studies")
