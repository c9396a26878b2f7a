"""
The tables, as SQLAlchemy Core knows them. Migrations make them; a test holds that both agree.

Promises: names are those of the wire and the docs; times are POSIX seconds. What lists show is in
``runs``; heavy parts are in ``run_bodies``. Every list of the API has its index. Nothing here is
particular to one database, so that PostgreSQL is an addition.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    desc,
    false,
)

from physicsrunner.store.partial import IS_BUSY, IS_HELD, IS_WAITING, OF_PROJECT, only

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows up by itself only for INTEGER; PostgreSQL needs the long one.
_ID: Final = BigInteger().with_variant(Integer, "sqlite")
_JSON: Final = JSON(none_as_null=True)

runs: Final = Table(
    "runs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("project_id", String(64)),
    Column("study_id", String(36)),
    Column("model_id", String(36)),
    Column("model_version", String(64)),
    Column("simulation_type", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("description", Text),
    Column("tags", _JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("cpu_cores", Float, nullable=False),
    Column("memory_gb", Float, nullable=False),
    Column("gpu_count", Integer, nullable=False),
    Column("storage_gb", Float, nullable=False),
    Column("labels", _JSON, nullable=False),
    Column("time_limit_s", Float),
    Column("stage", String(32)),
    Column("label", Text),
    Column("progress_percent", Float, nullable=False),
    Column("eta_seconds", Float),
    Column("exit_code", Integer),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("held", Boolean, nullable=False, server_default=false()),
    Column("unreachable", Boolean, nullable=False, server_default=false()),
    Column("result_count", Integer, nullable=False),
    Column("published_attempt", Integer),
    Column("attempt", Integer, nullable=False),
    Column("agent", String(255)),
    Column("claimed", Boolean, nullable=False, server_default=false()),
    Column("confirmed", Boolean, nullable=False, server_default=false()),
    Column("deadline", Float),
    Column("token_issued", Float),
    Column("retry_count", Integer, nullable=False),
    Column("lost_count", Integer, nullable=False),
    Column("not_before", Float),
    Column("on_lost_contact", String(16), nullable=False),
    Column("retry_of", String(36)),
    Column("retry_policy", _JSON),
    Column("pause_requested", Boolean, nullable=False, server_default=false()),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Column("queue_limit_s", Float),
    Column("silence_limit_s", Float),
    Column("stop_when_silent", Boolean, nullable=False, server_default=false()),
    Column("silent", Boolean, nullable=False, server_default=false()),
    Column("door", String(32)),
)


def _index(name: str, *columns: str, where: str | None = None) -> None:
    """Index runs by *columns* (a leading ``-``: descending), all of them or those *where*."""
    by = [desc(runs.c[name[1:]]) if name.startswith("-") else runs.c[name] for name in columns]
    Index(f"ix_runs_{name}", *by, **({} if where is None else only(where)))


# Those that have ended are in none of these indexes: an end takes a row out and writes no new one.
_index("queue", "status", "-priority", "number", where=IS_WAITING)
_index("deadline", "deadline", where="deadline IS NOT NULL")
_index("queue_limit", "status", where="queue_limit_s IS NOT NULL")
_index("held", "agent", "number", where=IS_HELD)
_index("door", "door", "completed_at", "number", where="door IS NOT NULL")
# The lists, in the order of time.
_index("created", "created_at", "number")
_index("status", "status", "created_at", "number")
_index("project", "project_id", "created_at", "number", where=OF_PROJECT)
_index("project_status", "project_id", "status", "created_at", "number", where=OF_PROJECT)
_index("model", "model_id", "created_at", "number", where="model_id IS NOT NULL")
_index("creator", "created_by", "created_at", "number")
_index("private", "created_by", "created_at", "number", where="project_id IS NULL")
_index("study", "study_id", "created_at", "number", where="study_id IS NOT NULL")
_index("agent", "agent", "created_at", "number", where="agent IS NOT NULL")
_index("door_created", "door", "created_at", "number", where="door IS NOT NULL")
_index(
    "door_status",
    *("door", "cancel_requested", "status", "created_at", "number"),
    where="door IS NOT NULL",
)
# The lists, in another order.
_index("updated", "updated_at", "number")
_index("name", "name", "number")
_index("priority", "priority", "number")
_index("started", "started_at", "number")
_index("completed", "completed_at", "number")
_index("progress", "progress_percent", "number")

run_bodies: Final = Table(
    "run_bodies",
    METADATA,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("parameters", _JSON, nullable=False),
    Column("configuration", _JSON, nullable=False),
    Column("resource_requirements", _JSON, nullable=False),
    Column("inputs", _JSON, nullable=False),
    Column("results", _JSON, nullable=False),
    Column("metrics", _JSON, nullable=False),
    Column("secrets", Text),  # encrypted; None: it has none
)

run_tags: Final = Table(
    "run_tags",
    METADATA,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(100), primary_key=True),
    Column("number", BigInteger),  # of the run: the newest runs of a tag are found by it
    Index(None, "tag", "number"),
)

attempts: Final = Table(
    "attempts",
    METADATA,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("agent", String(255), nullable=False),
    Column("leased_at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("exit_code", Integer),
    Column("error_code", String(64)),
    Column("error_message", Text),
)

files: Final = Table(
    "files",
    METADATA,
    Column("run_id", String(36), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    sqlite_with_rowid=False,  # the key is the table: one tree to write for each sealed file
)

removed_files: Final = Table(
    "removed_files",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("run_id", String(36), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", String(1024), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("removed_at", Float, nullable=False),
    Index(None, "run_id", "attempt"),
    Index(None, "removed_at"),
)

events: Final = Table(
    "events",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("type", String(64), nullable=False),
    Column("run_id", String(36)),
    Column("attempt", Integer),
    Column("project_id", String(64)),
    Column("time", Float, nullable=False),
    Column("data", _JSON, nullable=False),
    Column("actor", String(255)),  # who caused it; None: the server itself
    Column("origin", String(64)),  # from which address
    Index(None, "run_id", "id"),
    Index(None, "project_id", "id", **only(OF_PROJECT)),
    Index(None, "actor", "id", **only("actor IS NOT NULL")),
    sqlite_autoincrement=True,  # an id is never given twice
)

models: Final = Table(
    "models",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),  # "": of no project
    Column("name", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
)

model_versions: Final = Table(
    "model_versions",
    METADATA,
    Column("model_id", ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    Index(None, "model_id", "created_at"),
    Index(None, "version"),
)

uploads: Final = Table(
    "uploads",
    METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    Index(None, "created_at"),
)

# Who has sent an input: knowing its SHA-256 is not having it.
upload_owners: Final = Table(
    "upload_owners",
    METADATA,
    Column("sha256", ForeignKey("uploads.sha256", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(255), primary_key=True),
)

agents: Final = Table(
    "agents",
    METADATA,
    Column("id", String(255), primary_key=True),
    Column("host", _JSON, nullable=False),
    Column("labels", _JSON, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("state", String(16), nullable=False, server_default="active"),
    Column("reason", Text),  # why it is paused or drained, in words
    Column("resources", _JSON, nullable=False, server_default="{}"),  # all it has, not what is free
    Column("slots", Integer, nullable=False, server_default="1"),
    Column("start_failures", Integer, nullable=False, server_default="0"),  # in a row
    Index(None, "last_seen"),
)

studies: Final = Table(
    "studies",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("project_id", String(64)),
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("max_concurrent_runs", Integer),
    Index(None, "created_at"),
    *(Index(None, one, "created_at") for one in ("project_id", "created_by", "name")),
)

# How many runs of each state: kept with every change, so that no list has to count.
run_counts: Final = Table(
    "run_counts",
    METADATA,
    Column("kind", String(16), primary_key=True),  # all, project, creator, model, study, agent
    Column("key", String(255), primary_key=True),  # "" of kind all
    Column("status", String(16), primary_key=True),
    Column("runs", BigInteger, nullable=False),
    # Of thousands of projects and studies few hold runs at a time.
    Index("ix_run_counts_busy", "kind", "key", "runs", **only(IS_BUSY)),
    sqlite_with_rowid=False,
)

users: Final = Table(
    "users",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("password", Text),  # argon2; None: logs in by token alone
    Column("role", String(16)),  # for the whole server; None: only what its projects give
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Float, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),  # wrong passwords in a row
    Column("locked_until", Float),
    Column("last_login", Float),
)

projects: Final = Table(
    "projects",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("max_concurrent_runs", Integer),
)

members: Final = Table(
    "members",
    METADATA,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
    Index(None, "user"),
)

tokens: Final = Table(
    "tokens",
    METADATA,
    Column("id", String(64), primary_key=True),  # the token's jti; the token itself is not kept
    Column("name", String(255), nullable=False),
    Column("kind", String(16), nullable=False),  # user, agent, enroll
    Column("subject", String(255), nullable=False),
    Column("scopes", _JSON),  # permissions it is confined to; None: all of its bearer's
    Column("project_id", String(64)),  # confined to one project
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
    Column("last_used_from", String(64)),
    Column("nonce", String(64)),  # of whoever used up a one-time token
    Index(None, "subject", "created_at"),
)

consumers: Final = Table(
    "consumers",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("cursor", BigInteger, nullable=False),  # the last event that was delivered
    Column("updated_at", Float, nullable=False),
)

webhooks: Final = Table(
    "webhooks",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # encrypted
    Column("types", _JSON, nullable=False),  # patterns of event types; []: all
    Column("project_id", String(64)),
    Column("created_by", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),  # of the event after the cursor, in a row
    Column("next_try_at", Float),
    Column("last_error", Text),
)

dead_letters: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("time", Float, nullable=False),
    Index(None, "webhook_id", "id"),
)

counters: Final = Table(
    "counters",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
