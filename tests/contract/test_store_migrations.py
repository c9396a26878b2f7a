"""The migrations make the tables that the code knows, and can be taken back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, MetaData, inspect, text

from physicsrunner.core.run import RunFilter
from physicsrunner.core.state import RunState
from physicsrunner.errors import ConfigError
from physicsrunner.store import migrate
from physicsrunner.store.database import Database
from physicsrunner.store.migrate import downgrade, present, upgrade
from physicsrunner.store.schema import METADATA
from physicsrunner.store.sql import SqlStore


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty database of each kind."""
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path / 'a b.db'}")
    else:
        opened = Database(request.getfixturevalue("postgres"))
    yield opened
    opened.close()


def _differs(_context: Any, _found: Any, column: Any, *_: Any) -> bool | None:
    # PostgreSQL cannot compare two values of type json; None: compare as usual.
    return False if isinstance(column.type, JSON) else None


def from_the_first_release(database: Database) -> None:
    """Make the present tables as an old database gets them, step by step."""
    upgrade(database, "0001")
    upgrade(database)


#: Both ways to the present tables: from the first release on, and at once.
WAYS = pytest.mark.parametrize("make", [from_the_first_release, upgrade])


def described(database: Database) -> dict[str, Any]:
    """Return all that the database says of its tables; names and orders of no meaning are left."""
    with database.read() as connection:
        look = inspect(connection)
        if database.dialect == "sqlite":
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        else:
            query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        indexes = {row[0]: " ".join(row[1].split()) for row in connection.execute(text(query))}
        return {"indexes": indexes} | {
            name: (
                {column["name"]: str(column) for column in look.get_columns(name)},
                look.get_pk_constraint(name)["constrained_columns"],
                sorted(
                    (key["constrained_columns"], key["referred_table"], str(key["options"]))
                    for key in look.get_foreign_keys(name)
                ),
                sorted(found["column_names"] for found in look.get_unique_constraints(name)),
                sorted(str(found["sqltext"]) for found in look.get_check_constraints(name)),
            )
            for name in look.get_table_names()
        }


def test_an_empty_database_is_made_as_the_migrations_would(database: Database) -> None:
    """Made at once or in steps: the same columns, keys, constraints and indexes."""
    upgrade(database)
    at_once = described(database)
    downgrade(database, "base")
    with database.alter() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    from_the_first_release(database)

    assert described(database) == at_once


@WAYS
def test_models_and_migrations_agree(database: Database, make: Any) -> None:
    """The database has just the tables, columns and indexes of the code."""
    make(database)

    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": _differs}
        )
        assert compare_metadata(context, METADATA) == []


@WAYS
def test_down_takes_everything_back_and_up_works_again(database: Database, make: Any) -> None:
    """Each step down drops what the step up made; nothing but Alembic's own table is left."""
    make(database)
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


def test_neither_a_present_nor_an_empty_database_loads_alembic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are made at once; opening them again costs one query."""

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(migrate, "_run", fail)
    monkeypatch.setattr(migrate, "_known", fail)
    upgrade(database)
    with database.read() as connection:
        assert present(connection) == migrate.HEAD
    monkeypatch.setattr(migrate, "_make", fail)
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


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Its tables stay alone, and the message names the file's owner by one of them."""
    file = tmp_path / "theirs.db"
    with closing(sqlite3.connect(file)) as theirs:
        theirs.execute("CREATE TABLE jobs (id INTEGER)")
        theirs.commit()
    with pytest.raises(ConfigError, match="another program: it has the table jobs"):
        SqlStore(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as theirs:
        assert theirs.execute("SELECT name FROM sqlite_schema").fetchall() == [("jobs",)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Whoever named it by mistake is told so, and is not told that it is our fault."""
    file = tmp_path / "junk.db"
    file.write_text("junk\n" * 1000)
    with pytest.raises(ConfigError, match="no SQLite database"):
        SqlStore(f"sqlite:///{file}")
    assert file.read_text() == "junk\n" * 1000


def add_old_runs(database: Database) -> None:
    """Add runs as the first release kept them."""
    columns = (
        "id, number, name, simulation_type, status, tags, priority, cpu_cores, memory_gb,"
        " gpu_count, storage_gb, labels, progress_percent, created_by, created_at, updated_at,"
        " result_count, attempt, retry_count, lost_count, on_lost_contact, project_id, agent"
    )
    metadata = MetaData()
    with database.write() as connection:
        metadata.reflect(connection)
        tables = metadata.tables
        for number in range(1, 7):
            run = {name.strip(): 0 for name in columns.split(",")}
            values: dict[str, Any] = {
                **run,
                "id": f"r{number}",
                "number": number,
                "created_at": number,
                "status": "completed" if number % 3 else "queued",
                "project_id": "p" if number % 2 else None,
                **dict.fromkeys(("name", "simulation_type"), "n"),
                "tags": [],
                "labels": [],
                "created_by": "ada",
                "on_lost_contact": "wait",
                "agent": "x",
                "attempt": 1,
            }
            connection.execute(tables["runs"].insert(), values)
            connection.execute(tables["run_tags"].insert(), {"run_id": f"r{number}", "tag": "t"})


def test_runs_of_the_first_release_are_counted_and_listed(database: Database) -> None:
    """Rows of 0001 survive the way up and down, and counts and tags are filled from them."""
    upgrade(database, "0001")
    add_old_runs(database)

    store = SqlStore(database.url.render_as_string(hide_password=False))
    try:
        assert store.counts("all") == {RunState.COMPLETED: 4, RunState.QUEUED: 2}
        assert store.counts("project", "p") == {RunState.COMPLETED: 2, RunState.QUEUED: 1}
        assert store.counts("private", "ada") == {RunState.COMPLETED: 2, RunState.QUEUED: 1}
        assert sum(store.counts("agent", "x").values()) == 6
        page = store.runs(RunFilter(tag="t"))
        assert [run.number for run in page.runs] == [6, 5, 4, 3, 2, 1]
        assert [run.pinned for run in page.runs] == [False] * 6
    finally:
        store.close()
    downgrade(database, "0001")
    with database.read() as connection:
        assert present(connection) == "0001"
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == 6
        assert connection.execute(text("SELECT count(*) FROM run_tags")).scalar() == 6


def test_runs_that_were_asked_to_stop_are_counted(database: Database) -> None:
    """0003 counts them for each door and state, from the rows, and takes the numbers back."""
    upgrade(database, "0001")
    add_old_runs(database)
    upgrade(database, "0002")
    with database.write() as connection:
        asked = "UPDATE runs SET door = 'ath', cancel_requested = true WHERE number IN (1, 2, 3)"
        connection.execute(text(asked))
        connection.execute(text("UPDATE runs SET door = 'ath' WHERE number = 4"))
        connection.execute(text("UPDATE runs SET cancel_requested = true WHERE number = 5"))
        counted = "SELECT 'door', door, status, count(*) FROM runs WHERE door IS NOT NULL"
        into = "INSERT INTO run_counts (kind, key, status, runs)"
        connection.execute(text(f"{into} {counted} GROUP BY door, status"))

    upgrade(database)
    store = SqlStore(database.url.render_as_string(hide_password=False))
    try:
        assert store.counts("asked", "ath") == {RunState.COMPLETED: 2, RunState.QUEUED: 1}
    finally:
        store.close()
    downgrade(database, "0002")
    with database.read() as connection:
        query = text("SELECT count(*) FROM run_counts WHERE kind = 'asked'")
        assert connection.execute(query).scalar() == 0


def test_many_that_open_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite itself refuses one of two that both turn a new file into one with a log."""
    failed: list[BaseException] = []

    def work(url: str, together: threading.Barrier) -> None:
        one = Database(url)
        try:
            together.wait(60)
            with one.read() as connection:
                connection.execute(text("SELECT 1"))
        except BaseException as error:
            failed.append(error)
        finally:
            one.close()

    for number in range(25):
        together = threading.Barrier(8)
        url = f"sqlite:///{tmp_path / str(number)}.db"
        threads = [threading.Thread(target=work, args=(url, together)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)

    assert failed == []


@pytest.mark.parametrize("old", [False, True])
def test_servers_that_start_at_once_migrate_once(database: Database, old: bool) -> None:
    """Whoever comes second waits and finds the tables there."""
    if old:
        upgrade(database, "0001")
    others = [Database(database.url.render_as_string(hide_password=False)) for _ in range(3)]
    failed: list[BaseException] = []

    def work(one: Database) -> None:
        try:
            upgrade(one)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for one in others:
        one.close()

    assert failed == []
    with database.read() as connection:
        assert present(connection) == migrate.HEAD
