"""What calls of one moment share, in one transaction, and what they must not share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, PhysicsRunnerError, ServerUnavailable
from physicsrunner.service.grants import lease_change
from physicsrunner.store import sql_rows
from physicsrunner.store.base import Change, Offer, Store
from physicsrunner.store.hot import raw
from physicsrunner.store.rows import FileRow, Sealed, StudyRow
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.live import Event
from tests.contract.test_store import START, TERMS, fact, lease, make
from tests.support.wait import wait_until

pytestmark = pytest.mark.parametrize("opener", ["sqlite", "postgresql"], indirect=True)
ODD = "\ud800"  # half of a pair: no database takes it


@pytest.fixture
def group(store: Store) -> Group:
    assert isinstance(store, SqlStore)
    return Group(store)


class Group:
    """Has calls carried out in one transaction."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.transactions = 0
        self.heard: list[Event] = []
        store.listen(self._hear)

    def _hear(self, events: Sequence[Event]) -> None:
        self.transactions += 1
        self.heard += events

    def __call__(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make the *calls* in this order at one moment; return their answers or errors."""
        lane = self.store._lane
        answers: list[Any] = [None] * len(calls)

        def make_it(place: int, call: Callable[[], Any]) -> None:
            try:
                answers[place] = call()
            except PhysicsRunnerError as error:
                answers[place] = error

        threads = [threading.Thread(target=partial(self.store.change, []))]
        threads += [threading.Thread(target=make_it, args=item) for item in enumerate(calls)]
        with self.store.database._writer:  # who leads waits for it, all others for who leads
            for number, thread in enumerate(threads):
                thread.start()
                ready = partial(_waits, lane, number)
                wait_until(ready)
        for thread in threads:
            thread.join(60)
        return answers


def _waits(lane: Any, number: int) -> bool:
    return lane._leader is not None and len(lane._waiting) == number


def add(store: Store, number: int, **fields: Any) -> list[RunRecord]:
    return [store.add_run(make(**fields), [])[0] for _ in range(number)]


def rename(store: Store, run: str, name: str) -> list[RunSummary | PhysicsRunnerError]:
    change = Change(
        {"name": name}, events=[fact(run, name[:8].encode("ascii", "replace").decode())]
    )
    return store.change([(run, lambda _: change)])


def offered(store: Store, agent: str, caps: int | None = None, **room: Any) -> list[RunSummary]:
    offer = Offer(Room(**room), START, caps=caps, agent=agent)
    return store.acquire(offer, lambda run: lease_change(run, agent, START, TERMS))


def test_calls_of_one_moment_are_one_transaction(store: Store, group: Group) -> None:
    """Leases and changes are stored together: each run is handed out once, in the queue's order."""
    runs = add(store, 6)
    (urgent,) = add(store, 1, priority=3)
    group.transactions = 0

    leases = [partial(lease, store, name) for name in "abc"]
    answers = group(leases[0], partial(rename, store, runs[5].id, "new"), *leases[1:])

    assert [run.id for run in answers[0] + answers[2] + answers[3]] == [
        urgent.id,
        runs[0].id,
        runs[1].id,
    ]
    assert answers[1][0].name == "new"
    assert group.transactions == 1
    assert [event.id for event in group.heard[-4:]] == [1, 2, 3, 4]
    assert store.events() == [event for event in group.heard if event.id]
    assert store.counts("all") == {RunState.PREPARING: 3, RunState.QUEUED: 4}
    assert [store.attempts(run.id)[0].agent for run in (urgent, *runs[:2])] == ["a", "b", "c"]


def test_a_lease_sees_what_came_before_it(store: Store, group: Group) -> None:
    """A run that was stopped or held at the same moment, but before, is not handed out."""
    stopped, held, free = add(store, 3)

    def to(run: str, **fields: Any) -> Callable[[], Any]:
        return lambda: store.change([(run, lambda _: Change(fields))])

    answers = group(
        to(stopped.id, status=RunState.CANCELLED),
        to(held.id, held=True),
        partial(lease, store, "a"),
    )
    assert [run.id for run in answers[2]] == [free.id]
    assert store.counts("all") == {
        RunState.CANCELLED: 1,
        RunState.PREPARING: 1,
        RunState.QUEUED: 1,
    }


def test_who_has_less_room_is_not_given_less(store: Store, group: Group) -> None:
    """What only a big agent could take does not keep a small one of the same moment from work."""
    add(store, 30, cpu_cores=8.0)
    (small,) = add(store, 1)
    roomy = partial(offered, store, "big", cpu_cores=8.0)
    tiny = partial(offered, store, "small", cpu_cores=1.0)
    (big,), (little,), none = group(roomy, tiny, tiny)
    assert (big.number, little.id, none) == (1, small.id, [])


def test_caps_hold_among_calls_of_one_moment(store: Store, group: Group) -> None:
    """Study and server run as many as they may, whoever asks at once; a drained agent has none."""
    store.add_study(StudyRow("s", "s", "ada", START, max_concurrent_runs=1), fact("", "a"))
    add(store, 3, study_id="s")
    add(store, 3)
    store.agent_seen("away", now=START, host={}, labels=[])
    store.change_agent("away", {"state": "draining"})

    answers = group(*(partial(offered, store, name, caps=3) for name in ("away", *"abcd")))

    assert [len(taken) for taken in answers] == [0, 1, 1, 1, 0]
    assert [run.study_id for taken in answers for run in taken] == ["s", None, None]


def test_what_cannot_be_written_fails_alone(store: Store, group: Group) -> None:
    """One call's text that no database takes undoes that call; ids of events have no gap."""
    runs = add(store, 5)

    answers = group(
        partial(rename, store, runs[3].id, "before"),
        partial(rename, store, runs[4].id, f"bad{ODD}"),
        partial(rename, store, runs[2].id, "behind"),
        partial(lease, store, "a"),
        partial(lease, store, "b"),
    )

    assert isinstance(answers[1], InvalidRequest)
    assert [answers[0][0].name, answers[2][0].name] == ["before", "behind"]
    assert [run.id for run in answers[3] + answers[4]] == [runs[0].id, runs[1].id]
    told = store.events()
    assert [event.id for event in told] == [1, 2, 3, 4]
    assert group.heard == told
    assert [store.summary(run.id).name for run in runs] == [  # type: ignore[union-attr]
        *("run", "run", "behind", "before", "run")
    ]
    assert store.counts("all") == {RunState.PREPARING: 2, RunState.QUEUED: 3}


def test_seals_share_a_transaction_and_are_undone_with_their_call(
    store: Store, group: Group
) -> None:
    """A frame's files and what it reports are stored together with other calls', or not at all."""
    runs = add(store, 3)
    files = [FileRow("logs/a", 1, "0" * 64), FileRow("logs/b", 2, "1" * 64)]

    def end(run: str, name: str) -> list[RunSummary | PhysicsRunnerError]:
        sealed = Sealed({(run, 1): files}, [fact(run, "sealed")])
        return store.change([(run, lambda _: Change({"name": name}))], sealed=sealed)

    group.transactions = 0
    alone = partial(store.seal, {(runs[2].id, 1): files[:1]}, [fact(runs[2].id, "sealed")])
    (done,), nothing, _ = group(partial(end, runs[0].id, "a"), alone, partial(lease, store, "x"))
    assert (done.name, nothing, group.transactions) == ("a", None, 1)
    assert [len(store.sealed(run.id, 1)) for run in runs] == [2, 0, 1]

    bad, (good,), _ = group(
        partial(end, runs[1].id, ODD), partial(end, runs[2].id, "c"), partial(lease, store, "y")
    )
    assert isinstance(bad, InvalidRequest)
    assert good.name == "c"
    assert [len(store.sealed(run.id, 1)) for run in runs] == [2, 0, 2]
    assert [event.run for event in store.events() if event.type == "sealed"] == [
        *(runs[0].id, runs[2].id, runs[2].id)
    ]


def test_who_built_on_what_failed_is_asked_to_come_again(store: Store, group: Group) -> None:
    """A decision on a change that was then undone is not kept; asked once more, it stands."""
    (run,) = add(store, 1)
    bad = partial(rename, store, run.id, f"bad{ODD}")

    def label() -> list[RunSummary | PhysicsRunnerError]:
        return store.change([(run.id, lambda _: Change({"label": "mine"}))])

    first, second = group(bad, label)
    assert isinstance(first, InvalidRequest)
    assert isinstance(second, ServerUnavailable)
    assert store.events() == []
    assert (store.summary(run.id) or run).name == "run"
    (again,) = label()
    assert isinstance(again, RunSummary)
    assert (again.name, again.label) == ("run", "mine")


def test_a_question_that_cannot_be_asked_fails_alone(store: Store, group: Group) -> None:
    """A key that no database takes is its caller's fault; the others have their answers."""
    (run,) = add(store, 1)
    answers = group(
        partial(lease, store, "a"),
        partial(rename, store, ODD, "x"),
        partial(rename, store, run.id, "new"),
    )
    assert isinstance(answers[1], InvalidRequest)
    assert [found.id for found in answers[0]] == [run.id]
    assert answers[2][0].name == "new"
    assert [event.id for event in store.events()] == [1, 2]


def test_works_that_write_by_themselves_come_in_their_turn(store: Store, group: Group) -> None:
    """A run that is added between two leases is seen by the second one."""
    answers = group(partial(lease, store, "a"), partial(add, store, 1), partial(lease, store, "b"))
    assert [len(answer) for answer in answers] == [0, 1, 1]


@pytest.mark.parametrize("decides", [True, False])
def test_a_connection_that_ends_in_a_group_is_told_and_replaced(
    store: Store, group: Group, decides: bool
) -> None:
    """Whoever was in the group hears that the database did not answer, and may ask once more."""
    if group.store.database.dialect != "postgresql":
        pytest.skip("a file has no connection that ends")
    run, other = add(store, 2)

    def end(connection: Any) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    def alone(transaction: Any) -> Any:
        end(transaction.connection)

    def deciding(_: RunSummary) -> Change:
        end(group.store.database._writes)
        return Change({"name": "never"})

    if decides:
        answers = group(
            partial(store.change, [(run.id, deciding)]), partial(rename, store, other.id, "x")
        )
    else:
        answers = group(partial(group.store._write, alone), partial(add, store, 1))
    assert [type(answer) for answer in answers] == [ServerUnavailable] * 2
    assert [found.name for found in store.runs(RunFilter()).runs] == ["run", "run"]
    rename(store, run.id, "new")
    assert {found.name for found in store.runs(RunFilter()).runs} == {"run", "new"}


def test_a_place_that_was_not_freed_is_not_given_away(store: Store, group: Group) -> None:
    """A lease that counted on an end which was then undone is decided anew."""
    store.add_study(StudyRow("s", "s", "ada", START, max_concurrent_runs=1), fact("", "a"))
    first, second = add(store, 2, study_id="s")
    assert [run.id for run in lease(store, "a")] == [first.id]

    def end(name: str) -> list[RunSummary | PhysicsRunnerError]:
        change = Change({"status": RunState.COMPLETED, "name": name})
        return store.change([(first.id, lambda _: change)])

    failed, taken = group(partial(end, ODD), partial(lease, store, "b"))
    assert isinstance(failed, InvalidRequest)
    assert taken == []
    _, (given,) = group(partial(end, "good"), partial(lease, store, "b"))
    assert given.id == second.id


def test_rows_of_a_document_are_looked_up(store: Store) -> None:
    """PostgreSQL finds each row of an UPDATE by its key, also in a table that was just filled."""
    assert isinstance(store, SqlStore)
    if store.database.dialect == "sqlite":
        return
    store.add_runs([(make(), []) for _ in range(500)])
    statements = [
        sql_rows._update_runs(("status", "deadline"))._of_document,
        sql_rows._update_bodies(("results",))._of_document,
        sql_rows._update_attempts(("state",))._of_document,
    ]
    for known in (False, True):
        if known:
            with store.database.write() as connection:
                raw(connection).execute("ANALYZE")
        with store.database.read() as connection:
            for statement in statements:
                rows = raw(connection).execute(f"EXPLAIN {statement}", ["[]", ["x"]]).fetchall()
                plan = "\n".join(row[0] for row in rows)
                assert "Nested Loop" in plan
                assert "Index Cond" in plan
                assert "Seq Scan" not in plan
