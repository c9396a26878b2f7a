"""
How an attempt ends: for good, or so that another follows. Pure.

Promises: every end of an attempt that its holder does not simply report is decided here, whoever
brings it (a failure, the clock, a person), so that it is counted, fenced and told in one way. What
is taken from its holder names no agent any more: whatever that holder says later is a lost lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from physicsrunner.core.lease import FAIL, RETRY, after_grace
from physicsrunner.core.retry import LOST, LOST_CONTACT, next_try
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, RunEvent, RunState, next_state
from physicsrunner.service import facts
from physicsrunner.store.base import Change
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

QUEUE_TIMEOUT: Final = "queue_timeout"
REMOVED: Final = "agent_removed"

#: What no longer holds once nobody carries the run out.
_LET_GO: Final[Mapping[str, Any]] = {
    "deadline": None,
    "unreachable": False,
    "pause_requested": False,
    "silent": False,
    "eta_seconds": None,
}


def again(
    run: RunSummary,
    wait_s: float,
    now: float,
    *,
    counts: str | None,
    why: Mapping[str, Any],
    ended_as: RunState = RunState.FAILED,
) -> Change:
    """
    Return what changes when *run* is to be tried again.

    Parameters
    ----------
    wait_s
        Seconds until it may be handed out.
    counts
        The field that counts this try: retry_count, lost_count; None: it does not count.
    why
        error_code, error_message and exit_code of the attempt that ended.
    ended_as
        What the attempt's own record says.
    """
    fields: dict[str, Any] = {
        **_LET_GO,
        **why,
        "status": next_state(run.status, RunEvent.TRY_AGAIN),
        "not_before": now + wait_s,
        "updated_at": now,
    }
    if run.pause_requested:
        fields["held"] = True  # whoever asked for that: it goes on when it is let go
    if counts is not None:
        fields[counts] = getattr(run, counts) + 1
    body: dict[str, Any] = {}
    if run.result_count:  # of an attempt that does not count
        fields["result_count"] = 0
        body["results"] = []
    after = replace(run, **fields)
    outcome = {
        "retry_count": after.retry_count,
        "lost_count": after.lost_count,
        "not_before": after.not_before,
    }
    events = [facts.freed(after, run.agent, now)]
    if run.pause_requested:
        events.append(facts.event(after, live.HELD, now))
    events.append(facts.moved(after, run.status, now, outcome))
    attempt = {**attempt_row(after, now), "state": ended_as.value}
    return Change(fields, body, attempt, events)


def over(
    run: RunSummary,
    event: RunEvent,
    now: float,
    *,
    why: Mapping[str, Any],
    outcome: Mapping[str, Any] = MappingProxyType({}),
    fenced: bool = True,
) -> Change:
    """
    Return what changes when *run* ends by *event* without its holder's report of the end.

    *fenced*: the holder was not asked, and has lost the lease. *outcome* is said in the event.
    """
    fields: dict[str, Any] = {
        **_LET_GO,
        **why,
        "status": next_state(run.status, event),
        "completed_at": now,
        "updated_at": now,
    }
    if fenced:
        fields["agent"] = None
    after = replace(run, **fields)
    events: list[Event] = []
    attempt: dict[str, Any] = {}
    if run.status in HELD:
        events.append(facts.freed(after, run.agent, now))
        attempt = attempt_row(after, now)
    events.append(facts.moved(after, run.status, now, outcome))
    return Change(fields, attempt=attempt, events=events)


def given_up(run: RunSummary, now: float, *, why: str, code: str = LOST_CONTACT) -> Change | None:
    """
    Return what changes when the run's agent is not waited for any longer.

    None: `on_lost_contact` says to wait. A run that was asked to stop is cancelled: nobody is left
    who could carry it on.
    """
    said = {"error_code": code, "error_message": why}
    follows = after_grace(run)
    if code == REMOVED and follows not in (RETRY, FAIL):
        follows = FAIL  # a person decided: there is nobody to wait for
    if follows not in (RETRY, FAIL):
        return None
    if run.cancel_requested:
        return over(run, RunEvent.CANCELLED, now, why=said)
    wait = next_try(run, LOST) if follows == RETRY else None
    if wait is None:
        return over(run, RunEvent.FAILED, now, why=said)
    change = again(run, wait, now, counts="lost_count", why=said)
    # The holder is fenced off: its report of an end would otherwise be taken for a repeat.
    return replace(change, run={**change.run, "agent": None})


def attempt_row(run: RunSummary, ended: float) -> dict[str, Any]:
    """Return what the attempt's own record says, when *run* has just ended or is tried again."""
    return {
        "state": run.status.value,
        "started_at": run.started_at,
        "ended_at": ended,
        "exit_code": run.exit_code,
        "error_code": run.error_code,
        "error_message": run.error_message,
    }
