"""PostgreSQL as it behaves in life: killed, away, full, spelled in another way, not installed."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from physicsrunner.errors import (
    ConfigError,
    InvalidRequest,
    MissingExtra,
    ServerUnavailable,
    StorageFull,
)
from physicsrunner.store.database import Database, meaning
from physicsrunner.store.hot import raw
from physicsrunner.store.sql import SqlStore
from tests.contract.test_store import fact, make
from tests.support.postgres import PostgresServer, postgres_server


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Give a server of this test alone, which may be killed."""
    with postgres_server() as started:
        yield started


def test_a_server_that_was_killed_is_used_again(server: PostgresServer) -> None:
    """While it is away calls say so and may be tried again; what was stored is there afterwards."""
    store = SqlStore(server.fresh())
    try:
        kept, _ = store.add_run(make(), [fact("x")])
        server.kill()
        with pytest.raises(ServerUnavailable):
            store.summary(kept.id)
        with pytest.raises(ServerUnavailable):
            store.append_events([fact("x")])
        server.start()

        assert store.record(kept.id) == kept
        assert store.append_events([fact("x")])[0].data == fact("x").data
        assert len(store.events()) == 2
    finally:
        store.close()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nobody listens: the message comes at once and the call may be tried again."""
    with pytest.raises(ServerUnavailable):
        SqlStore("postgresql://nobody@127.0.0.1:9/none")


def test_commits_are_durable_and_the_planner_is_told(postgres: str) -> None:
    """What a write returned survives a power cut; queues are walked, not sorted."""
    database = Database(postgres)
    try:
        with database.read() as connection:
            found = {
                name: connection.execute(text(f"SHOW {name}")).scalar()
                for name in ("synchronous_commit", "enable_sort", "transaction_isolation")
            }
    finally:
        database.close()
    assert found == {
        "synchronous_commit": "on",
        "enable_sort": "off",
        "transaction_isolation": "repeatable read",
    }


def test_a_transaction_that_was_given_up_is_not_called_stored(postgres: str) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK after an error: that is told."""
    store = SqlStore(postgres)

    def give_up() -> None:
        with store.database.write() as connection, suppress(store.database.driver_error):
            raw(connection).execute("SELECT 1 / 0")

    try:
        with pytest.raises(ServerUnavailable):
            give_up()
        assert store.append_events([fact("x")])[0].id == 1
    finally:
        store.close()


def test_what_postgresql_cannot_hold_is_the_callers_fault(postgres: str) -> None:
    """A NUL, a number over 64 bits and a text that is too long are bad requests."""
    store = SqlStore(postgres)
    try:
        for bad in ({"name": "a\0b"}, {"project_id": "p" * 65}, {"exit_code": 2**40}):
            with pytest.raises(InvalidRequest):
                store.add_run(make(**bad), [])
        with pytest.raises(InvalidRequest):
            store.attempt("r", 2**70)
        assert store.events() == []
    finally:
        store.close()


class Full(Exception):
    """As the driver says that the disk is full."""

    sqlstate = "53100"


def test_a_full_disk_of_the_server_is_storage_full() -> None:
    """Error 53100 is not taken for a server that is away."""
    assert isinstance(meaning(Full(), Full()), StorageFull)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense"])
def test_other_databases_are_refused(url: str) -> None:
    """The message names what is supported, or what cannot be read."""
    with pytest.raises(ConfigError):
        Database(url)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it is told how."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    with pytest.raises(MissingExtra, match=r"physicsrunner\[postgres\]"):
        Database("postgresql://x@127.0.0.1/y")
