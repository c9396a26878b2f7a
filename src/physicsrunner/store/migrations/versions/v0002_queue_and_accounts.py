"""
Queue and agents for many: retries, pauses, limits; accounts, tokens, outbox, studies, counts.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = ("created_at", "number")
_OLD_INDEXES = {
    "status_priority_number": ("status", "priority", "number"),
    "status_deadline": ("status", "deadline"),
    "agent_status": ("agent", "status"),
    "created_at_number": _TIME,
    "status_created_at_number": ("status", *_TIME),
    "project_id_created_at_number": ("project_id", *_TIME),
    "project_id_status_created_at_number": ("project_id", "status", *_TIME),
    "model_id_created_at_number": ("model_id", *_TIME),
    "created_by_created_at_number": ("created_by", *_TIME),
    "study_id_status": ("study_id", "status"),
    "updated_at": ("updated_at",),
    "name": ("name",),
}
#: Name to columns and condition.
_NEW_INDEXES = {
    "queue": (
        ("status", sa.text("priority DESC"), "number"),
        "status IN ('queued', 'retrying')",
    ),
    "deadline": (("deadline",), "deadline IS NOT NULL"),
    "queue_limit": (("status",), "queue_limit_s IS NOT NULL"),
    "held": (("agent", "number"), "status IN ('paused', 'preparing', 'running')"),
    "door": (("door", "completed_at", "number"), "door IS NOT NULL"),
    "created": (_TIME, None),
    "status": (("status", *_TIME), None),
    "project": (("project_id", *_TIME), "project_id IS NOT NULL"),
    "project_status": (("project_id", "status", *_TIME), "project_id IS NOT NULL"),
    "model": (("model_id", *_TIME), "model_id IS NOT NULL"),
    "creator": (("created_by", *_TIME), None),
    "private": (("created_by", *_TIME), "project_id IS NULL"),
    "study": (("study_id", *_TIME), "study_id IS NOT NULL"),
    "agent": (("agent", *_TIME), "agent IS NOT NULL"),
    "updated": (("updated_at", "number"), None),
    "name": (("name", "number"), None),
    "priority": (("priority", "number"), None),
    "started": (("started_at", "number"), None),
    "completed": (("completed_at", "number"), None),
    "progress": (("progress_percent", "number"), None),
}

_BUSY = "runs > 0 AND status IN ('paused', 'preparing', 'running') AND kind IN ('project', 'study')"
_COUNTED = ("created_by", "project_id", "model_id", "study_id", "agent")
_KINDS = {
    "all": None,
    "creator": "created_by",
    "private": "created_by",
    "project": "project_id",
    "model": "model_id",
    "study": "study_id",
    "agent": "agent",
}


def _index_runs() -> None:
    for name, (columns, condition) in _NEW_INDEXES.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(
            f"ix_runs_{name}",
            "runs",
            list(columns),
            unique=False,
            sqlite_where=where,
            postgresql_where=where,
        )


def _fill() -> None:
    """Number the tags and count the runs that are there."""
    op.execute(
        "UPDATE run_tags SET number = (SELECT number FROM runs WHERE runs.id = run_tags.run_id)"
    )
    runs = sa.table("runs", *(sa.column(name) for name in ("status", *_COUNTED)))
    counts = sa.table("run_counts", *(sa.column(n) for n in ("kind", "key", "status", "runs")))
    for kind, name in _KINDS.items():
        key = sa.literal("") if name is None else runs.c[name]
        query = sa.select(sa.literal(kind), key, runs.c.status, sa.func.count())
        query = query.select_from(runs).group_by(runs.c.status)
        if name is not None:
            query = query.where(key.is_not(None)).group_by(key)
        if kind == "private":
            query = query.where(runs.c.project_id.is_(None))
        op.execute(counts.insert().from_select(["kind", "key", "status", "runs"], query))


def upgrade() -> None:
    """Add what is new."""
    op.create_table(
        "upload_owners",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"],
            ["uploads.sha256"],
            name=op.f("fk_upload_owners_sha256_uploads"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sha256", "owner", name=op.f("pk_upload_owners")),
    )
    op.execute("INSERT INTO upload_owners (sha256, owner) SELECT sha256, created_by FROM uploads")
    op.create_table(
        "consumers",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_consumers")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("max_concurrent_runs", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_table(
        "run_counts",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", "status", name=op.f("pk_run_counts")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_run_counts_busy",
        "run_counts",
        ["kind", "key", "runs"],
        unique=False,
        sqlite_where=sa.text(_BUSY),
        postgresql_where=sa.text(_BUSY),
    )
    op.create_table(
        "studies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("max_concurrent_runs", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_studies_project_id_created_at"),
            ["project_id", "created_at"],
            unique=False,
        )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("last_used_from", sa.String(length=64), nullable=True),
        sa.Column("nonce", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_tokens_subject_created_at"), ["subject", "created_at"], unique=False
        )
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until", sa.Float(), nullable=True),
        sa.Column("last_login", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("types", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "dead_letters",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("webhook_id", sa.String(length=36), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_dead_letters_webhook_id_webhooks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dead_letters_webhook_id_id"), ["webhook_id", "id"], unique=False
        )
    op.create_table(
        "members",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_members_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name=op.f("fk_members_user_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "user", name=op.f("pk_members")),
    )
    with op.batch_alter_table("members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_members_user"), ["user"], unique=False)
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("state", sa.String(length=16), server_default="active", nullable=False)
        )
        batch_op.add_column(sa.Column("reason", sa.Text(), nullable=True))
        batch_op.add_column(
            sa.Column("resources", sa.JSON(none_as_null=True), server_default="{}", nullable=False)
        )
        batch_op.add_column(sa.Column("slots", sa.Integer(), server_default="1", nullable=False))
        batch_op.add_column(
            sa.Column("start_failures", sa.Integer(), server_default="0", nullable=False)
        )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("actor", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.String(length=64), nullable=True))
        batch_op.drop_index(batch_op.f("ix_events_project_id_id"))  # held those of no project too
        for name in ("actor", "project_id"):
            batch_op.create_index(
                batch_op.f(f"ix_events_{name}_id"),
                [name, "id"],
                unique=False,
                sqlite_where=sa.text(f"{name} IS NOT NULL"),
                postgresql_where=sa.text(f"{name} IS NOT NULL"),
            )
    op.drop_index("ix_attempts_agent_run_id", table_name="attempts")
    with op.batch_alter_table("run_bodies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("secrets", sa.Text(), nullable=True))
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("retry_policy", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(
            sa.Column("pause_requested", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(
            sa.Column("pinned", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("queue_limit_s", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("silence_limit_s", sa.Float(), nullable=True))
        batch_op.add_column(
            sa.Column("stop_when_silent", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(
            sa.Column("silent", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("door", sa.String(length=32), nullable=True))
        for name in _OLD_INDEXES:
            batch_op.drop_index(batch_op.f(f"ix_runs_{name}"))
    _index_runs()
    with op.batch_alter_table("run_tags", schema=None) as batch_op:
        batch_op.add_column(sa.Column("number", sa.BigInteger(), nullable=True))
        batch_op.drop_index(batch_op.f("ix_run_tags_tag_run_id"))
        batch_op.create_index(batch_op.f("ix_run_tags_tag_number"), ["tag", "number"], unique=False)
    _fill()


def downgrade() -> None:
    """Take it back."""
    op.create_index("ix_attempts_agent_run_id", "attempts", ["agent", "run_id"], unique=False)
    op.drop_table("upload_owners")
    with op.batch_alter_table("run_tags", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_tags_tag_number"))
        batch_op.create_index(batch_op.f("ix_run_tags_tag_run_id"), ["tag", "run_id"], unique=False)
        batch_op.drop_column("number")
    for name in _NEW_INDEXES:
        op.drop_index(f"ix_runs_{name}", table_name="runs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("door")
        batch_op.drop_column("silent")
        batch_op.drop_column("stop_when_silent")
        batch_op.drop_column("silence_limit_s")
        batch_op.drop_column("queue_limit_s")
        batch_op.drop_column("pinned")
        batch_op.drop_column("pause_requested")
        batch_op.drop_column("retry_policy")
    for name, columns in _OLD_INDEXES.items():
        op.create_index(f"ix_runs_{name}", "runs", list(columns), unique=False)
    with op.batch_alter_table("run_bodies", schema=None) as batch_op:
        batch_op.drop_column("secrets")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_actor_id"))
        batch_op.drop_index(batch_op.f("ix_events_project_id_id"))
        batch_op.create_index(
            batch_op.f("ix_events_project_id_id"), ["project_id", "id"], unique=False
        )
        batch_op.drop_column("origin")
        batch_op.drop_column("actor")
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.drop_column("start_failures")
        batch_op.drop_column("slots")
        batch_op.drop_column("resources")
        batch_op.drop_column("reason")
        batch_op.drop_column("state")
    with op.batch_alter_table("members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_members_user"))
    op.drop_table("members")
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dead_letters_webhook_id_id"))
    op.drop_table("dead_letters")
    op.drop_table("webhooks")
    op.drop_table("users")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_subject_created_at"))
    op.drop_table("tokens")
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_studies_project_id_created_at"))
    op.drop_table("studies")
    op.drop_index("ix_run_counts_busy", table_name="run_counts")
    op.drop_table("run_counts")
    op.drop_table("projects")
    op.drop_table("consumers")
