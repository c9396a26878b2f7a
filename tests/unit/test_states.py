"""The state table: every pair is decided, every state can be reached and can end."""

from __future__ import annotations

import itertools

import pytest

from physicsrunner.core.state import (
    HELD,
    LEASABLE,
    REPORTED,
    TERMINAL,
    TRANSITIONS,
    RunEvent,
    RunState,
    event_for,
    next_state,
)
from physicsrunner.errors import IllegalTransition

S, E = RunState, RunEvent

#: The table once more, written from the design and not from the code.
ALLOWED = {
    (S.QUEUED, E.LEASED): S.PREPARING,
    (S.RETRYING, E.LEASED): S.PREPARING,
    (S.PREPARING, E.STARTED): S.RUNNING,
    (S.RUNNING, E.PAUSED): S.PAUSED,
    (S.PAUSED, E.RESUMED): S.RUNNING,
    (S.RUNNING, E.SUCCEEDED): S.COMPLETED,
    **{(s, E.TRY_AGAIN): S.RETRYING for s in (S.PREPARING, S.RUNNING, S.PAUSED)},
    **{
        (s, event): end
        for s in (S.QUEUED, S.PREPARING, S.RUNNING, S.PAUSED, S.RETRYING)
        for event, end in (
            (E.FAILED, S.FAILED),
            (E.CANCELLED, S.CANCELLED),
            (E.TIMED_OUT, S.TIMEOUT),
        )
    },
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RunState, RunEvent)))
def test_every_pair_is_decided(state: RunState, event: RunEvent) -> None:
    """Each of the 81 pairs leads where the design says, or raises `IllegalTransition`."""
    if (state, event) in ALLOWED:
        assert next_state(state, event) is ALLOWED[state, event]
        return
    with pytest.raises(IllegalTransition) as caught:
        next_state(state, event)
    assert (caught.value.state, caught.value.event) == (state.value, event.value)


def _reachable(start: RunState) -> set[RunState]:
    seen, todo = {start}, [start]
    while todo:
        new = set(TRANSITIONS[todo.pop()].values()) - seen
        seen |= new
        todo.extend(new)
    return seen


def test_every_state_is_in_the_table_and_reachable() -> None:
    """From queued every state can be reached."""
    assert set(TRANSITIONS) == set(RunState)
    assert _reachable(RunState.QUEUED) == set(RunState)


@pytest.mark.parametrize("state", RunState)
def test_every_state_can_end(state: RunState) -> None:
    """From every state a terminal one can be reached, and nothing leaves a terminal one."""
    assert _reachable(state) & TERMINAL
    if state in TERMINAL:
        assert _reachable(state) == {state}


def test_the_named_sets() -> None:
    """Held, leasable and terminal are what the words say, and do not overlap."""
    assert {S.COMPLETED, S.FAILED, S.CANCELLED, S.TIMEOUT} == TERMINAL
    assert {S.PREPARING, S.RUNNING, S.PAUSED} == HELD
    assert {S.QUEUED, S.RETRYING} == LEASABLE
    assert set(RunState) == TERMINAL | HELD | LEASABLE


@pytest.mark.parametrize(("present", "reported"), list(itertools.product(RunState, RunState)))
def test_a_report_means_one_event(present: RunState, reported: RunState) -> None:
    """A repeated report is no event; another leads to the reported state, if anywhere."""
    if present is reported:
        assert event_for(present, reported) is None
        return
    if reported not in REPORTED:
        with pytest.raises(IllegalTransition):
            event_for(present, reported)
        return
    event = event_for(present, reported)
    assert event is not None
    if (present, event) in ALLOWED:
        assert next_state(present, event) is reported
