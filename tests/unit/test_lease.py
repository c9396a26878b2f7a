"""The rules of leases, requests and room."""

from __future__ import annotations

from typing import Any

import pytest

from physicsrunner.core.lease import (
    LeaseTerms,
    after_grace,
    check_holder,
    commands,
    is_holder,
    is_lost,
    is_overdue,
    is_past_half_life,
    stops_when_lost,
    waited_too_long,
)
from physicsrunner.core.resources import Room, has_labels
from physicsrunner.core.run import RunFilter, RunSummary, check_filter, priority_of
from physicsrunner.core.state import HELD, RunState
from physicsrunner.errors import InvalidRequest, LeaseLost


def run(**fields: Any) -> RunSummary:
    base = {"attempt": 2, "agent": "x", "status": RunState.RUNNING, "deadline": 60.0}
    made = RunSummary("r", 1, "name", "ada", 0.0, 0.0)
    return RunSummary(**{**vars(made), **base, **fields})


@pytest.mark.parametrize("state", list(RunState))
def test_only_the_holder_of_a_held_run_may_change_it(state: RunState) -> None:
    """Attempt and agent must both be the present ones, and somebody must hold the run."""
    present = run(status=state)
    if state in HELD:
        check_holder(present, 2, "x")
    else:
        with pytest.raises(LeaseLost):
            check_holder(present, 2, "x")
    for attempt, agent in ((1, "x"), (3, "x"), (2, "y"), (2, None), (2, "")):
        assert not is_holder(present, attempt, agent)
        with pytest.raises(LeaseLost):
            check_holder(present, attempt, agent)
    assert not is_holder(run(agent=None), 2, None)


@pytest.mark.parametrize(("now", "late"), [(59.0, False), (60.0, False), (60.001, True)])
def test_a_deadline_is_over_when_it_has_passed(now: float, late: bool) -> None:
    """At the deadline itself the lease still holds."""
    assert is_overdue(run(), now) is late
    assert not is_overdue(run(status=RunState.COMPLETED), now)
    assert not is_overdue(run(deadline=None), now)


def test_terms() -> None:
    """A lease is a minute, renewed four times in it; tokens are replaced at half their life."""
    terms = LeaseTerms()
    assert terms.deadline(10.0) == 70.0
    assert terms.renew_s * 4 == terms.lease_s
    assert not is_past_half_life(0.0, 100.0, 49.9)
    assert is_past_half_life(0.0, 100.0, 50.0)


def test_room() -> None:
    """A run fits where all it needs is free; what it takes is gone."""
    room = Room(cpu_cores=4, memory_gb=8, gpu_count=1, storage_gb=10)
    need = run(cpu_cores=3.0, memory_gb=8.0, gpu_count=1, storage_gb=1.0)
    assert room.fits(need)
    assert not room.without(need).fits(need)
    assert room.without(need) == Room(1, 0, 0, 9)
    for field in ("cpu_cores", "memory_gb", "gpu_count", "storage_gb"):
        assert not room.fits(run(**{field: 11}))
    assert has_labels(run(labels=["a"]), ["a", "b"])
    assert not has_labels(run(labels=["a", "c"]), ["a", "b"])


@pytest.mark.parametrize(
    ("value", "priority"), [(None, 1), (0, 0), (3, 3), ("low", 0), ("Critical", 3)]
)
def test_priorities(value: object, priority: int) -> None:
    """Numbers 0 to 3 and their names."""
    assert priority_of(value) == priority


@pytest.mark.parametrize("value", [-1, 4, True, "urgent", 1.5, []])
def test_priorities_that_are_none(value: object) -> None:
    """Everything else is refused."""
    with pytest.raises(InvalidRequest):
        priority_of(value)


@pytest.mark.parametrize(
    "wanted", [RunFilter(sort="x"), RunFilter(sort="--name"), RunFilter(limit=1001)]
)
def test_lists_that_cannot_be_answered(wanted: RunFilter) -> None:
    """Unknown orders and pages without end are refused."""
    with pytest.raises(InvalidRequest):
        check_filter(wanted)


def test_durations() -> None:
    """A run that has not ended has none."""
    assert run(started_at=5.0, completed_at=7.5).duration_seconds == 2.5
    assert run(started_at=5.0).duration_seconds is None
    assert run(completed_at=5.0).duration_seconds is None


def test_what_follows_when_the_grace_time_is_over() -> None:
    """Only an unreachable run can be lost, and never before deadline and grace have passed."""
    gone = run(unreachable=True)
    assert [is_lost(gone, now, 300.0) for now in (60.0, 360.0, 360.001)] == [False, False, True]
    assert not is_lost(run(), 1e9, 300.0)
    assert not is_lost(run(unreachable=True, status=RunState.COMPLETED), 1e9, 300.0)
    assert not is_lost(run(unreachable=True, deadline=None), 1e9, 300.0)
    for policy, stops in (("wait", False), ("retry", True), ("fail", True)):
        assert after_grace(run(on_lost_contact=policy)) == policy
        assert stops_when_lost(run(on_lost_contact=policy)) is stops
    assert after_grace(run(on_lost_contact="retry", claimed=True)) == "wait"


@pytest.mark.parametrize("state", list(RunState))
def test_commands_follow_from_the_run(state: RunState) -> None:
    """Cancel goes before all; pause is for what runs, resume for what is paused."""
    held = state in HELD
    assert commands(run(status=state, cancel_requested=True)) == (["cancel"] if held else [])
    both = run(status=state, cancel_requested=True, pause_requested=True)
    assert commands(both) == (["cancel"] if held else [])
    asked = commands(run(status=state, pause_requested=True))
    assert asked == (["pause"] if state is RunState.RUNNING else [])
    assert commands(run(status=state)) == (["resume"] if state is RunState.PAUSED else [])


def test_the_limit_of_the_wait() -> None:
    """From the creation, or from when a retry may begin; not while a person holds the run."""
    waits = run(status=RunState.QUEUED, created_at=100.0, queue_limit_s=60.0)
    assert [waited_too_long(waits, now) for now in (160.0, 160.001)] == [False, True]
    again = run(status=RunState.RETRYING, not_before=500.0, queue_limit_s=60.0)
    assert [waited_too_long(again, now) for now in (560.0, 560.001)] == [False, True]
    assert not waited_too_long(run(status=RunState.QUEUED, queue_limit_s=60.0, held=True), 1e9)
    assert not waited_too_long(run(status=RunState.QUEUED), 1e9)
    assert not waited_too_long(run(queue_limit_s=60.0), 1e9)
