"""
Bringing a database to the present tables, with Alembic, from the first release on.

Promises: runs from an installed wheel, without an ini file and without touching the logging
configuration; a database that is up to date costs one query, and neither that nor an empty one
loads Alembic; a database of a newer release is refused with a message, never changed.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
    text,
)

from physicsrunner.errors import ConfigError
from physicsrunner.store.database import Database
from physicsrunner.store.schema import METADATA

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0004"  #: the newest revision; a test holds it against the scripts


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to *revision*. Two servers that start at once do it once."""
    if revision == "head" and _is_current(database):
        return
    with database.alter() as connection:
        tables = inspect(connection).get_table_names()
        if revision == "head" and not tables:
            _make(connection)
            return
        if tables and database.dialect == "sqlite" and "alembic_version" not in tables:
            raise ConfigError(
                f"the database's file is of another program: it has the table {tables[0]}; "
                "name another file, and nothing is done to this one"
            )
        if present(connection) not in (None, *_known()):
            raise ConfigError(
                f"the database is of a newer physicsrunner (revision {present(connection)}); "
                "update this one, or use another data folder"
            )
        _run("upgrade", connection, revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the database back to *revision* (``base``: no table is left)."""
    with database.alter() as connection:
        _run("downgrade", connection, revision)


def present(connection: Connection) -> str | None:
    """Return the revision of the database; None if it has no table of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _is_current(database: Database) -> bool:
    with database.read() as connection:
        return present(connection) == HEAD


def _make(connection: Connection) -> None:
    """Make the present tables at once: what the migrations lead to, and a test holds the two."""
    METADATA.create_all(connection, checkfirst=False)
    alembic = Table(
        "alembic_version",
        MetaData(),
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
    )
    alembic.create(connection)
    connection.execute(alembic.insert().values(version_num=HEAD))


def _known() -> list[str]:
    from alembic.script import ScriptDirectory

    with as_file(files("physicsrunner.store") / "migrations") as folder:
        scripts = ScriptDirectory.from_config(_config(str(folder), None))
        return [script.revision for script in scripts.walk_revisions()]


def _run(direction: str, connection: Connection, revision: str) -> None:
    from alembic import command

    with as_file(files("physicsrunner.store") / "migrations") as folder:
        getattr(command, direction)(_config(str(folder), connection), revision)


def _config(folder: str, connection: Any) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
