"""The migrations make the tables that the code knows, and can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from physicsrunner.errors import ConfigError
from physicsrunner.store import migrate
from physicsrunner.store.database import Database
from physicsrunner.store.migrate import downgrade, present, upgrade
from physicsrunner.store.schema import METADATA


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'a b.db'}")
    yield opened
    opened.close()


def test_models_and_migrations_agree(database: Database) -> None:
    """A database that the migrations made has just the tables, columns and indexes of the code."""
    upgrade(database)

    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []


def test_down_takes_everything_back_and_up_works_again(database: Database) -> None:
    """Each step down drops what the step up made; nothing but Alembic's own table is left."""
    upgrade(database)
    downgrade(database, "base")

    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert present(connection) is None
    upgrade(database)
    with database.read() as connection:
        assert present(connection) == migrate.HEAD


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    """The constant that saves loading Alembic is the head of the scripts, and there is one head."""
    folder = Path(str(migrate.__file__)).parent / "migrations"
    scripts = ScriptDirectory(str(folder))
    assert scripts.get_heads() == [migrate.HEAD]


def test_a_present_database_does_not_load_alembic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it again costs one query."""
    upgrade(database)

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(migrate, "_run", fail)
    monkeypatch.setattr(migrate, "_known", fail)
    upgrade(database)


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    """A database of a release to come is not touched, and the message says what to do."""
    upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigError, match="newer physicsrunner"):
        upgrade(database)
    with database.read() as connection:
        assert present(connection) == "9999"
