"""The door to the database: what SQLite is set up for, and what its troubles become."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy import text

from physicsrunner.errors import InvalidRequest, ServerUnavailable, StorageFull
from physicsrunner.store import database as database_module
from physicsrunner.store.database import Database
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.live import Event
from tests.contract.test_store import fact, make


def test_sqlite_is_set_up_for_what_we_promise(tmp_path: Path) -> None:
    """A write-ahead log, flushed at each commit, with foreign keys."""
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        with database.read() as connection:
            found = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
            }
    finally:
        database.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 4000,  # so long the log grows: 16 MB
    }


def test_a_database_that_is_locked_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that writes without end makes us unavailable, which may be tried again."""
    monkeypatch.setattr(database_module, "BUSY_MS", 20)
    store = SqlStore(f"sqlite:///{tmp_path / 'x.db'}")
    other = Database(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        sent = Event("input/sent", None, None, None, 0.0)
        with other.write(), pytest.raises(ServerUnavailable):
            store.add_upload("a" * 64, 1, sent, by=Actor("x"))
        store.add_upload("a" * 64, 1, sent, by=Actor("x"))
        assert store.upload("a" * 64) == 1
    finally:
        other.close()
        store.close()


def test_a_full_disk_is_storage_full_and_loses_nothing(tmp_path: Path) -> None:
    """What was kept stays readable; the write that did not fit left nothing of itself."""
    store = SqlStore(f"sqlite:///{tmp_path / 'x.db'}")
    heard: list[object] = []
    store.listen(heard.extend)
    try:
        kept, _ = store.add_run(make(), [fact("kept")])
        with store._db.write() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
            # One connection writes: from now on its file cannot grow.
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        big = make(str(uuid.uuid4()), parameters={"x": "y" * 1_000_000})

        with pytest.raises(StorageFull):
            store.add_run(big, [fact("lost")])

        assert store.record(big.id) is None
        assert store.record(kept.id) == kept
        assert len(store.events()) == len(heard) == 1
    finally:
        store.close()


def test_what_no_database_can_hold_is_the_callers_fault(tmp_path: Path) -> None:
    """Half a Unicode pair, or a number over 64 bits, is refused as a bad request."""
    store = SqlStore(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        with pytest.raises(InvalidRequest):
            store.attempt("\ud800", 1)
        with pytest.raises(InvalidRequest):
            store.attempt("r", 2**70)
    finally:
        store.close()
