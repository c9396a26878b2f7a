"""Batches, deletion, counts, limits, studies, agents, retention: held for every store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, NotFound
from physicsrunner.service.grants import lease_change
from physicsrunner.store.accounts import ProjectRow
from physicsrunner.store.base import Actor, Change, Offer, Store, StudyFilter, StudyRow
from physicsrunner.store.outbox import Received
from physicsrunner.wire import live
from physicsrunner.wire.live import Event
from tests.contract.test_store import START, TERMS, fact, lease, make

STUDY = Event(live.STUDY_CREATED, None, None, None, START)


def ended(store: Store, **fields: Any) -> RunRecord:
    """Add a run that has ended."""
    values = {"status": RunState.COMPLETED, "completed_at": START, **fields}
    return store.add_run(make(**values), [])[0]


def numbers(counts: dict[RunState, int]) -> dict[str, int]:
    return {state.value: number for state, number in counts.items()}


def test_a_batch_is_kept_in_its_order_and_once(store: Store) -> None:
    """Runs of a batch get numbers in order; one that is there, or comes twice, is told as old."""
    old, _ = store.add_run(make("o" * 36), [])
    new = [make(name=f"n{n}", tags=["t"]) for n in range(120)]
    items = [(run, [fact(run.id), fact(run.id, live.QUEUED)]) for run in [*new, old, new[0]]]

    kept = store.add_runs(items, by=Actor("ada", "::1"), secrets={new[3].id: "sealed"})

    assert [run.number for run, _ in kept] == [*range(2, 122), 1, 2]
    assert [is_new for _, is_new in kept] == [True] * 120 + [False, False]
    assert store.record(new[5].id) == replace(new[5], number=7)
    assert [store.secrets(run.id) for run in new[2:4]] == [None, "sealed"]
    events = store.events()
    assert [event.id for event in events] == list(range(1, 241))
    assert {(event.actor, event.origin) for event in events} == {("ada", "::1")}
    assert [event.data["number"] for event in events][:3] == [2, 2, 3]
    assert store.runs(RunFilter(tag="t")).total == 120
    assert store.add_runs([]) == []


def test_secrets_can_be_replaced(store: Store) -> None:
    """What is kept encrypted beside a run is given by `secrets` alone."""
    run, _ = store.add_run(make(), [], secrets={})
    store.change([(run.id, lambda _: Change(body={"secrets": "new"}))])

    assert store.secrets(run.id) == "new"
    assert store.secrets("none") is None
    assert store.record(run.id) == run


def test_counts_follow_every_change(store: Store) -> None:
    """Counts of all kinds agree with the runs after adding, leasing, pinning and deleting."""
    run, _ = store.add_run(make(project_id="p", model_id="m", study_id="s", door="d"), [])
    private, _ = store.add_run(make(), [])
    lease(store, "x")

    assert numbers(store.counts("all")) == {"preparing": 1, "queued": 1}
    for kind, key in (("project", "p"), ("model", "m"), ("study", "s"), ("agent", "x")):
        assert numbers(store.counts(kind, key)) == {"preparing": 1}
    assert numbers(store.counts("private", "ada")) == {"queued": 1}
    assert store.counts("project", "none") == {}

    done = {"status": RunState.FAILED, "pinned": True, "completed_at": START}
    store.change([(run.id, lambda _: Change(done)), (private.id, lambda _: Change(done))])
    assert numbers(store.counts("pinned")) == {"failed": 2}
    assert numbers(store.counts("pinned", "d")) == {"failed": 1}
    store.change([(private.id, lambda _: Change({"pinned": False}))])
    store.delete_runs([private.id], [])
    assert numbers(store.counts("creator", "ada")) == {"failed": 1}
    assert store.counts("private", "ada") == {}


def test_only_what_ended_and_is_not_pinned_is_deleted(store: Store) -> None:
    """Deleting takes all rows and events of a run, and leaves the event that says so."""
    waiting, _ = store.add_run(make(), [fact("w")])
    pinned = ended(store, pinned=True)
    gone = ended(store, tags=["t"])
    store.append_events([fact(gone.id), fact(waiting.id)])
    asked = [waiting.id, pinned.id, gone.id, "none", gone.id]
    events = [fact(run, live.DELETED) for run in asked[:3]]

    assert store.delete_runs(asked, events, by=Actor("ada")) == [gone.id]

    assert store.summary(gone.id) is None
    assert [event.type for event in store.events(gone.id)] == [live.DELETED]
    assert store.events(gone.id)[0].actor == "ada"
    assert len(store.events(waiting.id)) == 1
    assert store.runs(RunFilter(tag="t")).total == 0
    again, new = store.add_run(make(gone.id), [])
    assert (new, again.number) == (True, 4)


def test_agents_of_a_full_server_get_nothing(store: Store) -> None:
    """No more runs are held than the server allows, in one call and in many."""
    for _ in range(5):
        store.add_run(make(), [])

    def take(agent: str) -> list[RunSummary]:
        offer = Offer(Room(100, 100), START, (), 10, caps=3)
        return store.acquire(offer, lambda run: lease_change(run, agent, START, TERMS))

    assert len(take("x")) == 3
    assert take("y") == []


def test_projects_and_studies_run_as_many_as_they_may(store: Store) -> None:
    """Runs of a full project or study are passed over, also by callers at the same moment."""
    store.add_study(StudyRow("s", "study", "ada", START, None, 2), STUDY)
    store.change_accounts(
        lambda book: book.put_project(ProjectRow("p", "P", "ada", START, max_concurrent_runs=1))
    )
    for _ in range(6):
        store.add_run(make(study_id="s"), [])
        store.add_run(make(project_id="p"), [])
    store.add_run(make(name="free"), [])
    taken: list[RunSummary] = []

    def drain(agent: str) -> None:
        while runs := lease(store, agent):
            taken.extend(runs)

    threads = [threading.Thread(target=drain, args=(f"agent-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    kinds = sorted(run.study_id or run.project_id or run.name for run in taken)
    assert kinds == ["free", "p", "s", "s"]
    assert lease(store, "z", limit=10) == []


def test_an_agent_that_is_not_active_gets_nothing(store: Store) -> None:
    """Drained, paused and removed agents are given no run; unknown ones are."""
    store.add_run(make(), [])
    store.agent_seen("x", now=START, host={}, labels=[])

    def offered(agent: str) -> list[RunSummary]:
        offer = Offer(Room(100, 100), START, agent=agent)
        return store.acquire(offer, lambda _: None)

    seen: list[str] = []
    for state in ("draining", "paused", "removed", "active"):
        store.change_agent("x", {"state": state})
        offer = Offer(Room(100, 100), START, agent="x")
        store.acquire(offer, partial(_note, seen, state))
    assert seen == ["active"]
    assert offered("unknown") == []


def _note(seen: list[str], state: str, _run: RunSummary) -> None:
    seen.append(state)


def test_the_row_of_an_agent(store: Store) -> None:
    """An agent's row keeps what it said, what it does not say again, and when it was removed."""
    store.agent_seen("x", now=1.0, host={"cores": 4}, labels=[], resources={"cpu": 4}, slots=8)
    row = store.agent_seen("x", now=2.0, host={}, labels=["gpu"])

    assert (row.resources, row.slots, row.first_seen, row.last_seen) == ({"cpu": 4}, 8, 1.0, 2.0)
    paused = store.change_agent(
        "x", {"state": "paused", "reason": "broken", "start_failures": 5}, [fact("a")]
    )
    assert (paused.state, paused.reason, paused.start_failures) == ("paused", "broken", 5)
    assert store.agent("x") == paused
    assert store.remove_agent("x", [fact("b")])
    assert not store.remove_agent("x", [fact("c")])
    assert store.agents() == []
    assert store.agent("x") == replace(paused, state="removed")
    assert [event.run for event in store.events()] == ["a", "b"]
    with pytest.raises(NotFound):
        store.change_agent("none", {"state": "paused"})


def test_studies_are_kept_once(store: Store) -> None:
    """A study asked for twice is the first; lists show the latest first."""
    first = store.add_study(StudyRow("s1", "one", "ada", START, "p"), STUDY, by=Actor("ada"))
    assert store.add_study(StudyRow("s1", "two", "bob", START), STUDY) == first
    second = store.add_study(StudyRow("s2", "two", "ada", START + 1), STUDY, by=Actor("bob"))
    assert [told.actor for told in store.audit(kind="study/*")] == ["ada", "bob"]
    assert store.study("s1") == first
    assert store.study("none") is None
    assert store.studies(StudyFilter()) == [second, first]
    assert store.studies(StudyFilter("p")) == [first]


#: What is asked for -> which of the studies made below, by their places.
STUDIES_ASKED: list[tuple[dict[str, Any], list[int]]] = [
    ({"limit": 2}, [7, 6]),
    ({"limit": 3, "offset": 2}, [5, 4, 3]),
    ({"name": "n1"}, [7, 5, 3, 1]),
    ({"name": "n1", "project_id": "p"}, [5]),
    ({"name": "n"}, []),
    ({"projects": ["p"], "creator": None}, [5, 2]),
    ({"projects": [], "creator": "ada"}, [4]),
    ({"projects": [], "creator": None}, []),
    ({"projects": ["p", "q", "p"], "creator": "ada"}, [6, 5, 4, 3, 2, 0]),
    ({"projects": ["p", "q"], "creator": "ada", "limit": 2, "offset": 3}, [3, 2]),
    ({"projects": ["p"], "creator": "ada", "name": "n0"}, [4, 2]),
    ({"projects": ["p"], "creator": "ada", "project_id": "q"}, []),
    ({"projects": ["p"], "creator": "ada", "project_id": "p"}, [5, 2]),
    ({"projects": [*map(str, range(200)), "p"], "creator": "ada"}, [5, 4, 2]),
]


def test_studies_are_found_by_project_name_and_who_may_see_them(store: Store) -> None:
    """Pages hold what is asked for alone, also where many newer ones are not for that person."""
    projects = ["q", None, "p", "q", None, "p", "q", None]
    for n, project in enumerate(projects):
        by = "ada" if n == 4 else "bob"
        # Of the same moment, too, the order is the same each time.
        store.add_study(StudyRow(f"s{n}", f"n{n % 2}", by, START + n // 2, project), STUDY)
    for asked, there in STUDIES_ASKED:
        found = [row.id for row in store.studies(StudyFilter(**asked))]
        assert found == [f"s{n}" for n in there], asked


def test_what_the_clock_asks(store: Store) -> None:
    """Overdue, lost and tired runs are found; those that wait for ever or are held are not."""
    late = {"status": RunState.RUNNING, "agent": "x", "deadline": START, "attempt": 1}
    store.add_run(make("o" * 36, **late), [])
    store.add_run(make("l" * 36, **late, unreachable=True, on_lost_contact="retry"), [])
    store.add_run(make("w" * 36, **late, unreachable=True, on_lost_contact="wait"), [])
    store.add_run(make("t" * 36, queue_limit_s=10.0), [])
    store.add_run(make("h" * 36, queue_limit_s=10.0, held=True), [])
    again = {"status": RunState.RETRYING, "not_before": START + 50}
    store.add_run(make("r" * 36, queue_limit_s=10.0, **again), [])

    assert store.overdue(START + 1) == ["o" * 36]
    assert store.lost(START + 60, 60.0) == []
    assert [run.id[0] for run in store.lost(START + 61, 60.0)] == ["l"]
    assert store.waiting_too_long(START + 10) == []
    assert store.waiting_too_long(START + 11) == ["t" * 36]
    assert sorted(store.waiting_too_long(START + 61)) == ["r" * 36, "t" * 36]
    assert [run.id[0] for run in store.active_on("x")] == ["o", "l", "w"]


def test_who_waits_before_whom(store: Store) -> None:
    """The queue can be shown in its order, and a run can be told how many are before it."""
    runs = [store.add_run(make(name=str(n), priority=n % 3), [])[0] for n in range(30)]
    store.add_run(make(name="held", priority=3, held=True), [])

    order = [run.name for run in store.oldest_waiting(40)]
    assert order[:3] == ["held", "2", "5"]
    assert len(order) == 31
    assert store.waiting_before(runs[2]) == 0
    assert store.waiting_before(runs[0]) == 20
    assert store.waiting_before(runs[0], limit=5) == 5
    assert [run.name for run in store.oldest_waiting(2)] == ["held", "2"]


def test_what_retention_may_delete(store: Store) -> None:
    """The oldest first, by age or by number; pinned ones never, and other doors' not."""
    runs = [
        ended(store, completed_at=START + n, door="d" if n % 2 else None, pinned=n == 0)
        for n in range(8)
    ]
    store.add_run(make(), [])
    ids = [run.id for run in runs]

    assert store.ended() == []
    assert store.ended(before=START + 3) == ids[1:3]
    assert store.ended(keep=5) == ids[1:3]
    assert store.ended(keep=5, before=START + 5) == ids[1:5]
    assert store.ended(keep=2, door="d") == [ids[1], ids[3]]
    assert store.ended(before=START + 100, limit=2) == ids[1:3]


def test_events_of_no_run_can_be_pruned(store: Store) -> None:
    """Events of runs that are gone go when they are old; an id is never given again."""
    run, _ = store.add_run(make(), [fact("x")])
    store.append_events([replace(fact(run.id), time=1.0), replace(fact("gone"), time=1.0)])
    store.append_events([replace(fact("gone"), time=2.0), replace(fact("y"), run=None, time=1.0)])

    assert store.prune_events(1.5) == 1
    assert store.prune_events(1.5) == 0
    assert [event.id for event in store.events()] == [1, 2, 3, 4]
    assert store.prune_events(1.5, audit=False) == 1
    assert [event.id for event in store.events()] == [1, 2, 4]
    store.prune_events(START + 1)
    store.prune_events(START + 1, audit=False)
    assert [event.run for event in store.events()] == [run.id]
    assert store.append_events([fact(run.id)])[0].id == 6


def test_what_says_who_deleted_a_run_is_of_the_audit(store: Store) -> None:
    """What is left of a run that is gone goes by itself; that it was deleted is the audit's."""
    store.append_events([fact("gone"), fact("gone", live.DELETED)])
    assert store.prune_events(START + 1, audit=False) == 1
    assert [event.type for event in store.events()] == [live.DELETED]
    assert store.prune_events(START + 1) == 1


def test_events_wait_for_who_has_not_received_them(store: Store) -> None:
    """Neither pruning nor deleting a run takes what somebody waits for, if it is not too old."""
    run = ended(store)
    none = replace(fact("", "c"), run=None)
    told = store.append_events([fact(run.id, "a"), fact(run.id, "b"), none])
    received = Received(told[0].id or 0, START - 1)
    store.delete_runs([run.id], [fact(run.id, live.DELETED)], received=received)
    assert [event.type for event in store.events()] == ["b", "c", live.DELETED]
    later = START + 1
    assert store.prune_events(later, received=received) == 0
    assert store.prune_events(later, audit=False, received=received) == 0
    assert store.prune_events(later, received=replace(received, since=later)) == 2
    some = replace(received, upto=told[1].id or 0)
    assert store.prune_events(later, audit=False, received=some) == 1


def test_one_callers_failure_is_not_the_others(store: Store) -> None:
    """However many write at once, each gets its own answer; a failure undoes its own work alone."""
    runs = [store.add_run(make(), [])[0] for _ in range(12)]
    failed: list[int] = []

    def work(place: int) -> None:
        def decide(_: RunSummary) -> Change | None:
            if place % 3 == 0:
                raise ZeroDivisionError
            return Change({"name": f"done {place}"}, events=[fact(runs[place].id)])

        for _ in range(5):
            try:
                store.change([(runs[place].id, decide)])
            except ZeroDivisionError:
                failed.append(place)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(failed) == sorted([0, 3, 6, 9] * 5)
    names = [store.summary(run.id).name for run in runs]  # type: ignore[union-attr]
    assert names == ["run" if n % 3 == 0 else f"done {n}" for n in range(12)]
    assert len(store.events()) == 40


FILTERS: list[dict[str, Any]] = [
    {},
    {"status": [RunState.FAILED]},
    {"status": [RunState.FAILED, RunState.QUEUED]},
    {"project_id": "p1"},
    {"project_id": "p1", "status": [RunState.COMPLETED, RunState.QUEUED]},
    {"projects": ["p1", "p2"], "visible_to": "ada"},
    {"projects": ["p1"], "visible_to": None, "status": [RunState.QUEUED]},
    {"projects": ["p1"], "visible_to": "bob", "project_id": "p2"},
    {"projects": [], "visible_to": "bob"},
    {"model_id": "m", "created_by": "bob"},
    {"agent": "x"},
    {"study_id": "s", "status": [RunState.COMPLETED]},
    {"name": "N1"},
    {"tag": "t"},
    {"tag": "t", "project_id": "p1"},
]


@pytest.mark.parametrize("fields", FILTERS, ids=str)
def test_pages_of_every_filter_and_order(store: Store, fields: dict[str, Any]) -> None:
    """Leafing through a list in any order shows each run once, as sorting them all would."""
    states = [RunState.QUEUED, RunState.FAILED, RunState.COMPLETED]
    items: list[tuple[RunRecord, Sequence[Event]]] = []
    for n in range(60):
        run = make(
            f"{n:036d}",
            name=f"n{n * 7 % 20}",
            created_at=START + n,
            updated_at=START + n * 13 % 50,
            status=states[n % 3],
            project_id=(None, "p1", "p2", "p3")[n % 4],
            created_by=("ada", "bob")[n // 4 % 2],
            model_id="m" if n % 2 else None,
            study_id="s" if n % 5 == 0 else None,
            agent="x" if n % 3 else None,
            priority=n % 4,
            tags=["t"] if n % 3 == 1 else [],
            progress_percent=float(n * 11 % 30),
            started_at=START + n * 17 % 40 if n % 3 else None,
        )
        items.append((run, []))
    store.add_runs(items)
    every = store.runs(RunFilter(limit=1000)).runs
    for key in (
        "created_at",
        "number",
        "name",
        "status",
        "priority",
        "progress_percent",
        "started_at",
        "updated_at",
    ):
        for sign in ("", "-"):
            found: list[RunSummary] = []
            for offset in range(0, 60, 7):
                page = store.runs(RunFilter(sort=sign + key, limit=7, offset=offset, **fields))
                found += page.runs
                assert page.exact
            assert len({run.id for run in found}) == len(found) == page.total
            values = [getattr(run, key) for run in found]
            order = sorted(
                values,
                key=lambda value: (
                    (value is not None, value or 0) if not isinstance(value, str) else (True, value)
                ),
            )
            assert values == (order[::-1] if sign else order)
    assert {run.id for run in found} == {run.id for run in every if _wanted(run, fields)}


def _wanted(run: RunSummary, fields: dict[str, Any]) -> bool:
    for name in ("project_id", "model_id", "created_by", "agent", "study_id"):
        if name in fields and getattr(run, name) != fields[name]:
            return False
    if "projects" in fields:
        own = run.project_id is None and run.created_by == fields["visible_to"]
        if run.project_id not in fields["projects"] and not own:
            return False
    return (
        run.status in fields.get("status", [run.status])
        and fields.get("name", "").lower() in run.name
        and fields.get("tag", "t") in (run.tags or ([] if "tag" in fields else ["t"]))
    )


def test_a_list_is_not_leafed_through_for_ever(store: Store) -> None:
    """An offset beyond what a store walks is refused by every store."""
    store.add_run(make(), [])
    with pytest.raises(InvalidRequest, match="offset"):
        store.runs(RunFilter(offset=200_000))
