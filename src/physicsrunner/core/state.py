"""
The states of a run, and the one table that says what leads where.

Promises:

- Everything that decides a run's next state stands in `TRANSITIONS`. No entry, no transition:
  `next_state` raises `IllegalTransition`.
- docs/states.md is drawn from this table (``scripts/generate``); never edit the picture by hand.

This module never knows who asks: server, agent and runner use the same table. Stage, progress, a
request to cancel, "held" and "unreachable" are fields of a run, not states.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from physicsrunner.errors import IllegalTransition


class RunState(str, Enum):
    """Where a run stands. The value is the word on the wire and in the database."""

    QUEUED = "queued"  #: waits for an agent
    PREPARING = "preparing"  #: leased; the runner fetches what it needs
    RUNNING = "running"  #: main.py runs, or its files are on their way
    PAUSED = "paused"  #: main.py is stopped (SIGSTOP) and can go on
    RETRYING = "retrying"  #: an attempt ended and the policy allows another
    COMPLETED = "completed"  #: exit code 0, all artifacts sealed
    FAILED = "failed"  #: main.py or a stage failed
    CANCELLED = "cancelled"  #: stopped at a person's request
    TIMEOUT = "timeout"  #: stopped by its time limit

    def __str__(self) -> str:
        return self.value


class RunEvent(str, Enum):
    """What can happen to a run."""

    LEASED = "leased"  #: an agent was given the attempt
    STARTED = "started"  #: main.py was started
    PAUSED = "paused"  #: main.py was stopped and can go on
    RESUMED = "resumed"  #: main.py goes on
    SUCCEEDED = "succeeded"  #: main.py ended with 0 and every artifact is sealed
    FAILED = "failed"  #: it failed and no try is left
    TRY_AGAIN = "try_again"  #: the attempt was lost, handed back or failed, and a try is left
    CANCELLED = "cancelled"  #: the runner reports it stopped, or it had not started
    TIMED_OUT = "timed_out"  #: a time limit ended it

    def __str__(self) -> str:
        return self.value


_S, _E = RunState, RunEvent

_ENDS: Final = {
    _E.FAILED: _S.FAILED,
    _E.CANCELLED: _S.CANCELLED,
    _E.TIMED_OUT: _S.TIMEOUT,
}

TRANSITIONS: Final[Mapping[RunState, Mapping[RunEvent, RunState]]] = MappingProxyType(
    {
        _S.QUEUED: {_E.LEASED: _S.PREPARING, **_ENDS},
        _S.PREPARING: {_E.STARTED: _S.RUNNING, _E.TRY_AGAIN: _S.RETRYING, **_ENDS},
        _S.RUNNING: {
            _E.PAUSED: _S.PAUSED,
            _E.SUCCEEDED: _S.COMPLETED,
            _E.TRY_AGAIN: _S.RETRYING,
            **_ENDS,
        },
        _S.PAUSED: {_E.RESUMED: _S.RUNNING, _E.TRY_AGAIN: _S.RETRYING, **_ENDS},
        _S.RETRYING: {_E.LEASED: _S.PREPARING, **_ENDS},
        _S.COMPLETED: {},
        _S.FAILED: {},
        _S.CANCELLED: {},
        _S.TIMEOUT: {},
    }
)

#: States that no event leaves.
TERMINAL: Final = frozenset(state for state, edges in TRANSITIONS.items() if not edges)
#: States in which an agent holds the run's attempt.
HELD: Final = frozenset({_S.PREPARING, _S.RUNNING, _S.PAUSED})
#: States from which a run can be leased.
LEASABLE: Final = frozenset(state for state, edges in TRANSITIONS.items() if _E.LEASED in edges)

#: The event by which a runner reports that its run is now in this state.
REPORTED: Final[Mapping[RunState, RunEvent]] = MappingProxyType(
    {
        _S.RUNNING: _E.STARTED,
        _S.PAUSED: _E.PAUSED,
        _S.COMPLETED: _E.SUCCEEDED,
        _S.FAILED: _E.FAILED,
        _S.CANCELLED: _E.CANCELLED,
        _S.TIMEOUT: _E.TIMED_OUT,
    }
)


def next_state(state: RunState, event: RunEvent) -> RunState:
    """Return the state that *event* leads to, or raise `IllegalTransition`."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state.value, event.value) from None


def event_for(present: RunState, reported: RunState) -> RunEvent | None:
    """
    Return the event that a report of the state *reported* means for a run that is *present*.

    None when the run is there already: a repeated report is success. A program that goes on after
    a pause reports ``running`` too, so the event depends on where the run stands.
    """
    if present is reported:
        return None
    if present is _S.PAUSED and reported is _S.RUNNING:
        return _E.RESUMED
    try:
        return REPORTED[reported]
    except KeyError:
        raise IllegalTransition(present.value, f"report of {reported.value}") from None
