"""What every store must keep: the promises of `store.base`, held by one suite for all of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from physicsrunner.core.lease import LeaseTerms, check_holder, is_overdue
from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import HELD, TERMINAL, RunState
from physicsrunner.errors import LeaseLost, NotFound
from physicsrunner.service.grants import lease_change
from physicsrunner.service.reports import reported
from physicsrunner.store.base import Actor, AgentRow, Change, FileRow, ModelRow, Offer, Store
from physicsrunner.store.memory import MemoryStore
from physicsrunner.store.rows import Sealed
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import Report
from tests.support.examples import examples

START = 1_000.0
TERMS = LeaseTerms(lease_s=60, renew_s=15)


def make(run: str | None = None, **fields: Any) -> RunRecord:
    base = RunRecord(
        id=run or str(uuid.uuid4()),
        number=0,
        name="run",
        created_by="ada",
        created_at=START,
        updated_at=START,
    )
    return replace(base, **fields)


def fact(run: str, kind: str = "simulation/requested") -> Event:
    return Event(kind, run, None, None, START, {"simulation_id": run})


def lease(store: Store, agent: str, *, now: float = START, limit: int = 1) -> list[RunSummary]:
    offer = Offer(Room(cpu_cores=100, memory_gb=100, gpu_count=8, storage_gb=100), now, (), limit)
    return store.acquire(offer, lambda run: lease_change(run, agent, now, TERMS))


def test_numbers_count_up_from_one_and_an_id_is_one_run(store: Store) -> None:
    """A run asked for twice is one run, with the number and the content of the first."""
    first, new = store.add_run(make("a" * 36, name="first"), [fact("a" * 36)])
    again, new_again = store.add_run(make("a" * 36, name="second"), [fact("a" * 36)])
    other, _ = store.add_run(make(), [])

    assert (first.number, other.number) == (1, 2)
    assert (new, new_again) == (True, False)
    assert again == first
    assert len(store.events()) == 1
    assert store.events()[0].data["number"] == 1


def test_a_record_comes_back_as_it_was_kept(store: Store) -> None:
    """Every field of a record survives the store, also the heavy ones."""
    run = make(
        tags=["a", "b"],
        labels=["gpu"],
        description="naïve ☃ \n 'quoted'",
        parameters={"inputs": {"x": [1, 2.5, None, True, "é"]}},
        configuration={"timeout_minutes": 3},
        inputs=[{"path": "mesh.msh", "sha256": "0" * 64, "size": 3, "extract": False}],
        time_limit_s=180.0,
        memory_gb=1.5,
    )
    kept, _ = store.add_run(run, [])

    assert kept == replace(run, number=1)
    assert store.record(run.id) == kept
    assert store.record(1) == kept
    summary = store.summary(run.id)
    assert type(summary) is RunSummary
    assert summary == store.summary(1)
    assert store.record("none") is None
    assert store.summary(99) is None


def test_a_change_and_its_events_are_one(store: Store) -> None:
    """A decision that raises changes nothing and writes nothing; the others of its call stand."""
    good, _ = store.add_run(make(), [])
    bad, _ = store.add_run(make(), [])
    told: list[Event] = []
    store.listen(told.extend)

    def refuse(run: RunSummary) -> Change | None:
        raise LeaseLost(run.id, 1)

    def name(run: RunSummary) -> Change | None:
        return Change({"name": "new"}, {"results": [{"name": "t"}]}, events=[fact(run.id)])

    answers = store.change([(bad.id, refuse), (good.id, name), ("none", name), (good.id, _same)])

    assert isinstance(answers[0], LeaseLost)
    assert isinstance(answers[2], NotFound)
    assert isinstance(answers[1], RunSummary)
    assert answers[1].name == "new"
    assert answers[1] == answers[3]
    assert store.summary(bad.id) == RunSummary(
        **{name: getattr(bad, name) for name in vars(answers[1])}
    )
    record = store.record(good.id)
    assert record is not None
    assert record.results == [{"name": "t"}]
    assert [event.run for event in told] == [good.id]
    assert store.events() == told


def _same(_run: RunSummary) -> Change | None:
    return None


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    """A fault in the midst of a batch is raised; SQL then has no part of the batch."""
    run, _ = store.add_run(make(), [])

    def broken(_run: RunSummary) -> Change | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change([(run.id, lambda _: Change({"name": "half"})), (run.id, broken)])

    found = store.summary(run.id)
    assert found is not None
    assert isinstance(store, MemoryStore) or found.name == "run"


def test_the_queue_is_ordered_by_priority_then_age(store: Store) -> None:
    """The highest priority first, among equals the oldest."""
    for name, priority in (("a", 1), ("b", 3), ("c", 0), ("d", 3), ("e", 1)):
        store.add_run(make(name=name, priority=priority), [])

    assert [run.name for run in lease(store, "x", limit=10)] == ["b", "d", "a", "e", "c"]
    assert lease(store, "x", limit=10) == []


def test_only_what_fits_is_handed_out(store: Store) -> None:
    """An agent gets runs while its room lasts, and only those whose labels it has."""
    for name, cores in (("big", 8.0), ("half", 2.0), ("half again", 2.0), ("third", 1.0)):
        store.add_run(make(name=name, cpu_cores=cores), [])
    store.add_run(make(name="gpu", labels=["gpu"], cpu_cores=0.5, priority=3), [])
    store.add_run(make(name="held", held=True, cpu_cores=0.1), [])
    store.add_run(make(name="later", not_before=START + 1, cpu_cores=0.1), [])
    offer = Offer(Room(cpu_cores=4, memory_gb=1), START, ("site",), 10)

    taken = store.acquire(offer, lambda run: lease_change(run, "x", START, TERMS))

    assert [run.name for run in taken] == ["half", "half again"]
    gpu = Offer(Room(cpu_cores=4, memory_gb=1), START + 1, ("site", "gpu"), 2)
    taken = store.acquire(gpu, lambda run: lease_change(run, "x", START, TERMS))
    assert [run.name for run in taken] == ["gpu", "third"]


def test_many_that_do_not_fit_do_not_hide_one_that_does(store: Store) -> None:
    """A run that fits is found behind hundreds whose labels the agent has not."""
    for _ in range(450):
        store.add_run(make(labels=["gpu"], priority=3), [])
    store.add_run(make(name="plain"), [])

    assert [run.name for run in lease(store, "x")] == ["plain"]


def test_a_run_is_handed_out_once_however_many_ask(store: Store) -> None:
    """Threads that drain the queue at once get every run exactly once."""
    wanted = {store.add_run(make(), [])[0].id for _ in range(40)}
    taken: list[str] = []

    def drain(agent: str) -> None:
        while runs := lease(store, agent, limit=3):
            taken.extend(run.id for run in runs)

    threads = [threading.Thread(target=drain, args=(f"agent-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(taken) == sorted(wanted)


def test_listeners_hear_events_in_the_order_of_their_ids(store: Store) -> None:
    """However many write at once, a listener's ids only go up, and none is missing."""
    heard: list[int | None] = []
    store.listen(lambda events: heard.extend(event.id for event in events))

    def write(number: int) -> None:
        for _ in range(15):
            store.append_events([fact(str(number)), fact(str(number))])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert heard == list(range(1, 121))
    assert [event.id for event in store.events(after=118)] == [119, 120]
    assert [event.id for event in store.events(limit=2)] == [1, 2]
    assert len(store.events("2")) == 30


def test_attempts_are_kept_one_by_one(store: Store) -> None:
    """An attempt's row is made when it is leased and changed when it ends."""
    run, _ = store.add_run(make(), [])
    leased = lease(store, "x")[0]
    end = Report(run.id, 1, RunState.FAILED, exit_code=3)

    store.change([(run.id, lambda r: reported(r, end, "x", unsealed=(), now=START + 5))])

    attempt = store.attempt(run.id, 1)
    assert attempt is not None
    assert (attempt.agent, attempt.leased_at, attempt.state) == ("x", START, "failed")
    assert (attempt.ended_at, attempt.exit_code) == (START + 5, 3)
    assert store.attempts(run.id) == [attempt]
    assert leased.attempt == 1
    assert store.attempt(run.id, 2) is None


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (RunFilter(), ["d", "c", "b", "a"]),
        (RunFilter(sort="created_at"), ["a", "b", "c", "d"]),
        (RunFilter(sort="name", limit=2, offset=1), ["b", "c"]),
        (RunFilter(sort="-priority"), ["c", "d", "b", "a"]),
        (RunFilter(status=[RunState.FAILED, RunState.QUEUED], sort="number"), ["a", "c", "d"]),
        (RunFilter(project_id="p", sort="number"), ["a", "b"]),
        (RunFilter(created_by="bob"), ["d"]),
        (RunFilter(name="B"), ["b"]),
        (RunFilter(name="%"), []),
        (RunFilter(tag="t"), ["a"]),
        (RunFilter(sort="started_at"), ["a", "c", "d", "b"]),
    ],
)
def test_lists_filter_sort_and_page(store: Store, wanted: RunFilter, names: list[str]) -> None:
    """A page shows what was asked for, in its order; the total counts all pages."""
    rows: list[dict[str, Any]] = [
        {"name": "a", "project_id": "p", "tags": ["t", "u"]},
        {"name": "b", "project_id": "p", "status": RunState.RUNNING, "started_at": 5.0},
        {"name": "c", "priority": 3, "status": RunState.FAILED},
        {"name": "d", "priority": 2, "created_by": "bob"},
    ]
    for place, row in enumerate(rows):
        store.add_run(make(created_at=START + place, **row), [])

    page = store.runs(wanted)

    assert [run.name for run in page.runs] == names
    assert page.total == (4 if wanted.limit == 2 else len(names))


def test_sealed_files_come_and_go(store: Store) -> None:
    """Sealing twice is one row; unsealing is silent where nothing is sealed."""
    rows = [FileRow(f"outputs/f{n} 'ü'", n, "0" * 64) for n in range(1000)]
    store.seal({("r", 1): rows}, [fact("r", "simulation/files/sealed")])
    store.seal({("r", 1): [replace(rows[3], size=9)]}, [])
    store.seal({("r", 2): rows[:1]}, [])

    assert len(store.sealed("r", 1)) == 1000
    assert store.sealed("r", 1, [rows[3].path, "none"]) == {rows[3].path: replace(rows[3], size=9)}
    store.unseal("r", 1, rows[3].path, removed_at=START)
    store.unseal("r", 1, rows[3].path)
    assert rows[3].path not in store.sealed("r", 1)
    assert len(store.sealed("r", 2)) == 1
    assert len(store.events()) == 1


def test_what_is_sealed_is_kept_with_what_is_decided(store: Store) -> None:
    """Files come first, and stand also where a decision is refused."""
    run, _ = store.add_run(make(), [])
    row = FileRow("outputs/u", 1, "0" * 64)
    sealed = Sealed({(run.id, 1): [row]}, [fact(run.id, "simulation/files/sealed")])
    change = Change({"label": "done"}, events=[fact(run.id, "simulation/completed")])
    batches: list[list[str]] = []
    store.listen(lambda events: batches.append([event.type for event in events]))

    known, unknown = store.change(
        [(run.id, lambda _: change), ("none", lambda _: change)], sealed=sealed
    )

    assert isinstance(known, RunSummary)
    assert (known.label, type(unknown)) == ("done", NotFound)
    assert store.sealed(run.id, 1) == {row.path: row}
    assert batches == [["simulation/files/sealed", "simulation/completed"]]


def test_a_models_name_is_one_model_and_its_content_is_stored_once(store: Store) -> None:
    """The same name gets the same id; the same content has the zip that came first."""
    row = ModelRow("", "cavity", "v1" * 32, 10, "a" * 64, START, "ada")
    first = store.add_model(row, "id-1")
    again = store.add_model(replace(row, size=11), "id-2")
    newer = store.add_model(replace(row, version="v2" * 32, created=START + 1), "id-3")
    other = store.add_model(replace(row, name="heat", size=12, sha256="b" * 64), "id-4")

    assert first == again == replace(row, id="id-1")
    assert newer.id == "id-1"
    assert (other.id, other.size, other.sha256) == ("id-4", 10, "a" * 64)
    assert store.model("id-1") == newer
    assert store.model("id-1", "v1" * 32) == first
    assert store.model("none") is None
    assert [model.id for model in store.models()] == ["id-1", "id-4"]


def test_uploads_and_agents(store: Store) -> None:
    """An upload is known by its content; an agent keeps when it was first and last seen."""
    sent = Event("input/sent", None, None, None, START)
    for name in ("ada", "bob", "ada"):
        store.add_upload("a" * 64, 5, sent, by=Actor(name, "192.0.2.1"))
    assert [(told.actor, told.origin) for told in store.audit(kind="input/*")] == [
        ("ada", "192.0.2.1"),
        ("bob", "192.0.2.1"),
    ]
    store.agent_seen("x", now=1.0, host={"cores": 4}, labels=["gpu"])
    store.agent_seen("x", now=2.0, host={}, labels=[])

    assert store.upload("a" * 64) == 5
    assert store.upload("b" * 64) is None
    assert store.agents() == [AgentRow("x", first_seen=1.0, last_seen=2.0)]


# -- leases, by a model ---------------------------------------------------------------------------


class Leases(RuleBasedStateMachine):
    """Agents acquire, renew, report, oversleep, come back late, in any order."""

    opener: Callable[[], Store]

    def __init__(self) -> None:
        super().__init__()
        self.store = type(self).opener()
        self.now = START
        self.ids: list[str] = []
        self.handed_out: list[RunSummary] = []
        self.current: dict[str, RunSummary] = {}
        self.ended: dict[str, RunState] = {}
        self.ended_by: dict[str, int] = {}

    def teardown(self) -> None:
        self.store.close()

    @initialize()
    def queue(self) -> None:
        # The same ids each time: hypothesis repeats what it draws from lists that they order.
        runs = [make(str(uuid.UUID(int=number, version=4))) for number in range(3)]
        self.ids = [self.store.add_run(run, [])[0].id for run in runs]

    @rule(agent=st.sampled_from(["a", "b"]))
    def acquire(self, agent: str) -> None:
        taken = lease(self.store, agent, now=self.now)
        free = [run for run in self.ids if run not in self.current and run not in self.ended]
        assert [run.id for run in taken] == free[:1]
        for run in taken:
            self.current[run.id] = run
            self.handed_out.append(run)

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.handed_out)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.handed_out))
        answer = self._keep(held, held.agent)
        if self._is_current(held):
            assert isinstance(answer, RunSummary)
            self.current[held.id] = answer
        else:
            assert isinstance(answer, LeaseLost)

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def another_agent_shows_the_right_number(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(list(self.current.values())))
        assert isinstance(self._keep(held, "impostor"), LeaseLost)
        assert isinstance(self._say(held, "impostor", RunState.FAILED), LeaseLost)

    @precondition(lambda self: self.handed_out)
    @rule(data=st.data(), state=st.sampled_from([RunState.RUNNING, *sorted(TERMINAL)]))
    def report(self, data: st.DataObject, state: RunState) -> None:
        held = data.draw(st.sampled_from(self.handed_out))
        answer = self._say(held, held.agent or "", state)
        if not self._is_current(held):
            # Said again by the one who ended it, or said before: success, and nothing changes.
            ended_it = self.ended_by.get(held.id) == held.attempt
            repeat = ended_it and state in (self.ended[held.id], RunState.RUNNING)
            assert isinstance(answer, RunSummary) == repeat
        elif isinstance(answer, RunSummary):
            self.current[held.id] = answer
            if answer.status in TERMINAL:
                self.ended[held.id] = self.current.pop(held.id).status
                self.ended_by[held.id] = held.attempt
        else:
            assert state is RunState.COMPLETED  # it had not started
            assert self.current[held.id].status is RunState.PREPARING

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def the_attempt_is_given_up(self, data: st.DataObject) -> None:
        """The server gives an attempt to nobody: its holder must learn that it lost it."""
        run = data.draw(st.sampled_from(sorted(self.current)))
        self.store.change([(run, lambda _: Change({"status": RunState.RETRYING, "agent": None}))])
        del self.current[run]

    @invariant()
    def store_agrees_with_model(self) -> None:
        late = set(self.store.overdue(self.now))
        for run in self.ids:
            found = self.store.summary(run)
            assert found is not None
            assert (found.status in HELD) == (run in self.current)
            assert found.status is self.ended.get(run, found.status)
            if run in self.current:
                assert found == self.current[run]
            assert (run in late) == is_overdue(found, self.now)
            assert found.attempt == len(self.store.attempts(run))

    def _is_current(self, held: RunSummary) -> bool:
        present = self.current.get(held.id)
        return present is not None and present.attempt == held.attempt

    def _keep(self, held: RunSummary, agent: str | None) -> object:
        def decide(run: RunSummary) -> Change | None:
            check_holder(run, held.attempt, agent)
            return Change({"deadline": TERMS.deadline(self.now)})

        return self.store.change([(held.id, decide)])[0]

    def _say(self, held: RunSummary, agent: str, state: RunState) -> object:
        report = Report(held.id, held.attempt, state)
        return self.store.change(
            [(held.id, lambda run: reported(run, report, agent, unsealed=(), now=self.now))]
        )[0]


def test_leases_agree_with_their_model(
    opener: Callable[[], Store], request: pytest.FixtureRequest
) -> None:
    """Whatever agents do in whatever order, the store and a dictionary agree."""
    machine: Any = type("Machine", (Leases,), {"opener": staticmethod(opener)})
    in_memory = "memory" in request.node.name
    machine.TestCase.settings = settings(
        max_examples=examples(60 if in_memory else 12),
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase().runTest()
