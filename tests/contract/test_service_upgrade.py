"""A database of an older release is saved before its tables are changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from physicsrunner.service.backup import DATABASE
from physicsrunner.store.database import Database
from physicsrunner.store.migrate import HEAD, downgrade
from tests.contract.service_house import open_house


def revision(path: Path) -> str:
    """Return the release of a database's tables."""
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_the_tables_are_saved_before_they_change(tmp_path: Path) -> None:
    """The copy has the old tables and its owner's eyes alone; a second start makes no other."""
    house = open_house(tmp_path)
    file = house.services.data / DATABASE
    house.services.close()
    assert not list(file.parent.glob(f"{DATABASE}.0*"))
    with closing(Database(f"sqlite:///{file}")) as database:
        downgrade(database, "0001")
    for _ in range(2):
        open_house(tmp_path).services.close()
        assert revision(file) == HEAD
        (copy,) = file.parent.glob(f"{DATABASE}.0*")
        assert revision(copy) == "0001"
        assert copy.stat().st_mode & 0o077 == 0
    assert not list(file.parent.glob(".*.part*"))


def test_a_database_named_by_url_is_saved_too(tmp_path: Path) -> None:
    """Where the file lies does not matter: its old tables are kept beside it."""
    file = tmp_path / "elsewhere.db"
    url = f"sqlite:///{file}"
    open_house(tmp_path, url=url).services.close()
    with closing(Database(url)) as database:
        downgrade(database, "0001")
    open_house(tmp_path, url=url).services.close()
    (copy,) = tmp_path.glob("elsewhere.db.0*")
    assert (revision(file), revision(copy)) == (HEAD, "0001")
