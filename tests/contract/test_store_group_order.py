"""
Calls that share a transaction leave what they leave one after the other.

Two stores are given the same calls: one as a single group, the other each by itself. Answers, runs,
attempts, events and counts must be the same. What calls of a group put into the queue is there for
the next group alone, so none of these does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, LEASABLE, TERMINAL, RunState
from physicsrunner.errors import InvalidRequest, LeaseLost, PhysicsRunnerError, ServerUnavailable
from physicsrunner.service.grants import lease_change
from physicsrunner.store.base import Change, Decide, Offer, Store
from physicsrunner.store.rows import StudyRow
from physicsrunner.store.sight import Needs
from physicsrunner.store.sql import SqlStore
from physicsrunner.store.works import Job, Work, carry_out
from tests.contract.test_store import START, TERMS, fact, make
from tests.support.examples import examples
from tests.support.invariants import check_store

RUNS: Final = 5
ODD: Final = "\ud800"  # half of a pair: no database takes it
EXAMPLES: Final = {"sqlite": 50, "postgresql": 20}

Call = tuple[Any, ...]
_places = st.integers(0, RUNS - 1)
_changes = st.tuples(
    st.just("change"),
    st.lists(
        st.tuples(st.sampled_from(["name", "cancel", "end", "hold", "pin", "claim"]), _places),
        min_size=1,
        max_size=2,
    ),
)
_bad = st.tuples(st.just("bad"), _places)
_leases = st.tuples(
    st.just("lease"),
    st.sampled_from("ab"),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([1.0, 2.0, 9.0]),
)
_made = st.tuples(st.integers(0, 1), st.sampled_from([1.0, 2.0]), st.booleans(), st.booleans())
_calls = st.lists(st.one_of(_leases, _changes, _leases, _changes, _bad), min_size=4, max_size=8)
_ALIKE: Final = [(0, 1.0, False, False)] * RUNS
# What was leased behind a call that failed is changed; who left a run alone had seen that call's.
_BEHIND: Final[list[list[Call]]] = [
    [("bad", 4), ("lease", "a", 1, None, 9.0), ("change", [(name, 0)])]
    for name in ("cancel", "end", "pin")
]
# Who asks behind others must be given what is left of the cap, and nothing that is held by then.
_LEFT: Final[list[Call]] = [
    ("change", [("hold", 0), ("cancel", 1)]),
    *[("lease", agent, 1, 2, 9.0) for agent in "aba"],
]
_SEEN: Final[list[Call]] = [("bad", 0), ("change", [("hold", 1), ("end", 0)])]


class _Collected:
    """Takes calls as a lane does, and carries none of them out."""

    def __init__(self) -> None:
        self.jobs: list[Job[Any]] = []

    def decide(self, needs: Needs, work: Work[Any], by: Any = None) -> Any:
        self.jobs.append(Job(work, needs, by))


def _cancelled(run: RunSummary) -> Change | None:
    if run.status in LEASABLE:
        return Change({"status": RunState.CANCELLED}, events=[fact(run.id, "cancelled")])
    if run.status in HELD and not run.cancel_requested:
        return Change({"cancel_requested": True}, events=[fact(run.id, "asked")])
    return None


def _ended(run: RunSummary) -> Change:
    if run.status not in HELD:
        raise LeaseLost(run.id, run.attempt)
    over = {"status": RunState.COMPLETED, "deadline": None}
    said = {"state": "completed", "ended_at": START}
    return Change(over, {"results": [{"n": 1}]}, said, [fact(run.id, "ended")])


def _claimed(run: RunSummary) -> Change | None:
    return lease_change(run, "me", START, TERMS, claimed=True) if run.status in LEASABLE else None


def _over(run: RunSummary) -> Change | None:
    return None if run.status in TERMINAL else Change({"status": RunState.FAILED})


DECISIONS: Final[dict[str, Decide]] = {
    "name": lambda run: Change({"name": f"{run.name}+"}, events=[fact(run.id, "named")]),
    "cancel": _cancelled,
    "end": _ended,
    "hold": lambda run: None if run.held else Change({"held": True}),
    "pin": lambda run: Change({"pinned": not run.pinned}),
    "claim": _claimed,
}


def _carried_out(store: Store, runs: list[str], call: Call) -> Any:
    kind, *rest = call
    if kind == "lease":
        agent, limit, caps, cores = rest
        offer = Offer(Room(cores, 100, 8, 100), START, (), limit, caps=caps, agent=agent)
        return store.acquire(offer, lambda run: lease_change(run, agent, START, TERMS))
    if kind == "bad":  # it ends the run, and cannot be written
        end = Change({"name": ODD, "status": RunState.COMPLETED})
        return store.change([(runs[rest[0]], lambda _: end)])
    return store.change([(runs[place], DECISIONS[name]) for name, place in rest[0]])


def _answer(answer: Callable[[], Any]) -> Any:
    """Return an answer in a form that can be compared."""
    try:
        found = answer()
    except PhysicsRunnerError as error:
        return type(error)
    return [type(one) if isinstance(one, Exception) else one for one in found]


def _given(job: Job[Any]) -> Any:
    if job.error is not None:
        raise job.error
    return job.answers[0]


def _grouped(store: SqlStore, runs: list[str], calls: list[Call]) -> list[Any]:
    """Carry out *calls* in one transaction; return their answers."""
    lane, store._lane = store._lane, _Collected()  # type: ignore[assignment]
    try:
        for call in calls:
            _carried_out(store, runs, call)
        jobs = store._lane.jobs  # type: ignore[attr-defined]
    finally:
        store._lane = lane
    carry_out(store.database, jobs)
    return [_answer(partial(_given, job)) for job in jobs]


def _in_turn(calls: list[Call], answers: list[Any]) -> list[int]:
    """Return which calls stand, in the order in which they do."""
    kinds = [call[0] for call in calls]
    first_bad = kinds.index("bad") if "bad" in kinds else len(calls)
    late = [n for n, kind in enumerate(kinds) if kind == "lease" and n > first_bad]
    return [
        n for n in range(len(calls)) if n not in late and answers[n] != ServerUnavailable
    ] + late


def _left(store: SqlStore, runs: list[str], since: int) -> list[Any]:
    check_store(store, strict=False)
    told = store.events(after=since)
    assert [event.id for event in told] == list(range(since + 1, since + 1 + len(told)))
    return [store.records(runs), [store.attempts(run) for run in runs], told]


def _last(store: SqlStore) -> int:
    told = store.events(after=0, limit=1_000_000)
    return (told[-1].id or 0) if told else 0


@pytest.mark.parametrize("opener", ["sqlite", "postgresql"], indirect=True)
def test_a_group_is_its_calls_one_after_the_other(opener: Callable[[], SqlStore]) -> None:
    """Whatever calls of one moment do, they leave what they leave one by one."""
    pair = opener(), opener()
    for store in pair:
        store.add_study(StudyRow("s", "s", "ada", START, max_concurrent_runs=1), fact("", "a"))
    number = 0

    @settings(
        max_examples=examples(EXAMPLES[pair[0].database.dialect]),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(made=_ALIKE, calls=_BEHIND[0])
    @example(made=_ALIKE, calls=_BEHIND[1])
    @example(made=_ALIKE, calls=_BEHIND[2])
    @example(made=_ALIKE, calls=_SEEN)
    @example(made=_ALIKE, calls=_LEFT)
    @given(made=st.lists(_made, min_size=RUNS, max_size=RUNS), calls=_calls)
    def check(made: list[tuple[int, float, bool, bool]], calls: list[Call]) -> None:
        nonlocal number
        number += 1
        runs = [f"{number}-{place}" for place in range(RUNS)]
        since = [_last(store) for store in pair]
        for store in pair:
            for run, (priority, cores, study, pinned) in zip(runs, made, strict=True):
                said: dict[str, Any] = {"priority": priority, "cpu_cores": cores, "pinned": pinned}
                said |= {"study_id": "s" if study else None, "door": "ath"}
                store.add_run(make(run, **said), [])
        together, apart = pair
        try:
            answers = _grouped(together, runs, calls)
            turn = _in_turn(calls, answers)
            for n in turn:
                assert answers[n] == _answer(partial(_carried_out, apart, runs, calls[n]))
            for n, call in enumerate(calls):
                if call[0] == "bad":
                    assert answers[n] in (InvalidRequest, ServerUnavailable)
            assert _left(together, runs, since[0]) == _left(apart, runs, since[1])
        finally:
            for store in pair:  # the next example begins with an empty queue
                store.change([(run, _over) for run in runs])

    check()
    for store in pair:
        store.close()
