"""Single questions to a SQL store: what they see, and what becomes of their connections."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from physicsrunner.store import readers, sql_walks
from physicsrunner.store.base import Change, FileRow, Store
from physicsrunner.store.sql import SqlStore
from tests.contract.test_store import fact, lease, make

both = pytest.mark.parametrize("opener", ["sqlite", "postgresql"], indirect=True)


@both
def test_a_question_sees_all_that_was_stored_before_it(store: Store) -> None:
    """A connection that is kept for questions does not show the database as it once was."""
    run, _ = store.add_run(make(), [])
    for label in ("one", "two", "three"):

        def decide(_run: object, label: str = label) -> Change:
            return Change({"label": label})

        store.change([(run.id, decide)])
        there = store.summary(run.id)
        assert there is not None
        assert there.label == label
        assert store.summaries([run.id, "none"])[run.id].label == label


@both
def test_more_questions_at_once_than_connections_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered, and no more connections stay than are kept for the next."""
    assert isinstance(store, SqlStore)
    run, _ = store.add_run(make(), [])
    monkeypatch.setattr(readers, "_KEPT", 2)
    store.database._readers.close()
    store.database._readers._closed = False
    meet = threading.Barrier(6)
    found: list[Any] = []

    def ask() -> None:
        connections = [store.database._readers._taken()]
        meet.wait(30)
        store.database._readers._idle.extend(connections)
        found.append(store.record(run.id))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [run] * 6
    while len(store.database._readers._idle) > 2:  # they go as they are used
        store.database._readers._idle.popleft().close()
    assert store.record(run.id) == run
    assert len(store.database._readers._idle) == 2


@both
def test_after_the_end_no_connection_is_left(store: Store) -> None:
    """Connections of questions are closed with the store."""
    assert isinstance(store, SqlStore)
    store.summary("none")
    pool: Any = store.database.engine.pool
    assert pool.checkedout() >= 1
    store.close()
    assert pool.checkedout() == 0


@pytest.mark.parametrize("opener", ["memory", "sqlite"], indirect=True)
def test_a_key_that_no_text_can_be_finds_nothing(store: Store) -> None:
    """A zero byte ends no key: what is before it is another one."""
    run, _ = store.add_run(make(), [])
    assert set(store.summaries([run.id, run.id + "\0x"])) == {run.id}
    assert store.summaries([run.id + "\0x", run.id + "\0y"]) == {}


@both
def test_files_are_asked_for_by_any_name(store: Store) -> None:
    """Names with quotes, brackets and all letters are found, by one or many; [] is none."""
    run, _ = store.add_run(make(), [])
    names = ['a"b', "c'd", "[x]", "über/β.csv", "\\", "{}"]
    rows = [FileRow(name, 1, "0" * 64) for name in names]
    store.seal({(run.id, 1): rows}, [fact(run.id)])
    assert set(store.sealed(run.id, 1, names)) == set(names)
    assert set(store.sealed(run.id, 1, names[:1])) == {names[0]}
    assert store.sealed(run.id, 1, []) == {}
    store.seal({(run.id, 1): [FileRow(names[0], 2, "1" * 64), *rows[1:3]]}, [])
    assert store.sealed(run.id, 1)[names[0]] == FileRow(names[0], 2, "1" * 64)
    assert len(store.sealed(run.id, 1)) == len(names)


@both
def test_who_looks_at_the_queue_keeps_nothing_from_an_agent(store: Store) -> None:
    """A run that somebody is just reading from the head of the queue is handed out all the same."""
    assert isinstance(store, SqlStore)
    run, _ = store.add_run(make(), [])
    with store.database.read() as connection:
        seen = list(sql_walks.in_order(connection, lambda: sql_walks.EVERY, {}, 5))
        assert [found.run.id for found in seen] == [run.id]
        assert [leased.id for leased in lease(store, "a")] == [run.id]
