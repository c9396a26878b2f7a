"""
What a report changes in a run. Pure: the store calls it inside its transaction.

Promises: the fence is checked before anything else; a report of the state that the run is in
changes nothing of it; a failure that the run's policy answers is the end of the attempt and not of
the run; times in the future are not believed. What no database could keep or no
answer could carry (half a character, a number without end) is left out or refused with its report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from physicsrunner.core.lease import FAIL, after_grace, check_holder, is_holder
from physicsrunner.core.retry import LOST, LOST_CONTACT, failure_of, next_try
from physicsrunner.core.run import RunSummary, altered
from physicsrunner.core.state import (
    HELD,
    TERMINAL,
    RunEvent,
    RunState,
    event_for,
    next_state,
)
from physicsrunner.errors import IllegalTransition, InvalidRequest, NotSealed
from physicsrunner.service import facts
from physicsrunner.service.endings import again, attempt_row, over
from physicsrunner.store.base import Change
from physicsrunner.wire import live
from physicsrunner.wire.codec import check_depth, encode
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import Report

MAX_UNSEALED: Final = 1000
MAX_TEXT: Final = 4000  # characters of a label or an error that are kept
MAX_WORD: Final = 64  # characters of a stage or a code
MAX_ETA_S: Final = 1e10  # three centuries
EXIT_CODES: Final = range(-(2**31), 2**32)


def is_progress(report: Report) -> bool:
    """Say whether *report* speaks of progress alone, which may wait a second to be written."""
    said = (report.state, report.exit_code, report.error, report.results, report.silent)
    return not report.hand_back and all(value is None for value in said)


def progress_fields(report: Report) -> dict[str, Any]:
    """Return the run's fields that *report* says the progress of."""
    percent, eta = report.progress, report.eta_s
    said = {
        "stage": None if report.stage is None else _text(report.stage, MAX_WORD),
        "label": None if report.label is None else _text(report.label, MAX_TEXT),
        "progress_percent": None
        if percent is None or math.isnan(percent)
        else min(100.0, max(0.0, percent)),
        "eta_seconds": eta if eta is not None and 0 <= eta <= MAX_ETA_S else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _text(text: str, most: int) -> str:
    return text[:most].encode(errors="replace").decode()


def reported(
    run: RunSummary, report: Report, agent: str, *, unsealed: Sequence[str], now: float
) -> Change | None:
    """
    Return what *report* of *agent* changes; None if nothing.

    Raises
    ------
    LeaseLost
        If the agent does not hold the attempt.
    NotSealed
        If the run would complete with files that are not sealed.
    IllegalTransition
        If the state cannot be reached from where the run stands.
    InvalidRequest
        If it holds what cannot be kept.
    """
    if run.status not in HELD and is_holder(run, report.attempt, agent):
        _check_repeat(run, report)
        return None
    check_holder(run, report.attempt, agent)
    if report.exit_code is not None and report.exit_code not in EXIT_CODES:
        raise InvalidRequest(f"exit_code {report.exit_code} is none")
    check_depth([result.value for result in report.results or ()], "results")
    if report.hand_back:
        return _handed_back(run, report, now)
    event = None if report.state is None else event_for(run.status, report.state)
    state = None if event is None else next_state(run.status, event)
    if state is RunState.COMPLETED and unsealed:
        raise NotSealed(f"{len(unsealed)} files are not sealed", tuple(unsealed))
    if state in TERMINAL:
        why = _why(report)
        failure = failure_of(
            state, before=run.status, exit_code=report.exit_code, code=why.get("error_code")
        )
        wait = None if _has_failed(run, why) else next_try(run, failure)
        if wait is not None:
            counts = "lost_count" if failure == LOST else "retry_count"
            return again(run, wait, now, counts=counts, why=why, ended_as=state)
    return _taken(run, report, state, now)


def _has_failed(run: RunSummary, why: Mapping[str, Any]) -> bool:
    """Say whether lost contact, which its holder reports, is the end, as the run asks for."""
    return why.get("error_code") == LOST_CONTACT and after_grace(run) == FAIL


def _taken(run: RunSummary, report: Report, state: RunState | None, now: float) -> Change:
    """Return what a report changes that does not lead to another try."""
    fields = progress_fields(report)
    body: dict[str, Any] = {}
    events: list[Event] = []
    attempt: dict[str, Any] = {}
    if report.results is not None:
        body["results"] = [encode(result) for result in report.results]
        fields["result_count"] = len(report.results)
    if state is not None:
        fields["status"] = state
        fields.update(_times(run, state, report, now))
        if state in TERMINAL:
            fields.update(_ending(run, state, report))
    if report.silent is not None and report.silent is not run.silent and state not in TERMINAL:
        fields["silent"] = report.silent
    after = altered(run, fields)
    if fields.get("silent"):
        events.append(facts.silent(after, now))
    if report.results is not None:
        events.append(facts.event(after, live.RESULTS, now, output_count=len(report.results)))
    if state is not None:
        if state in TERMINAL:
            events.append(facts.freed(after, run.agent, now))
        events.append(facts.moved(after, run.status, now, _outcome(after)))
        attempt = (
            attempt_row(after, after.completed_at or now)
            if state in TERMINAL
            else {
                "state": state.value,
                "started_at": after.started_at,
            }
        )
    return Change(run=fields, body=body, attempt=attempt, events=events)


def _handed_back(run: RunSummary, report: Report, now: float) -> Change:
    """Return what changes when the holder gives the attempt back: its program does not run."""
    if run.claimed:
        raise InvalidRequest(f"run {run.id} is carried out by its creator: nobody else can have it")
    why = {"error_code": "handed_back", **_why(report)}
    why.setdefault("error_message", f"{run.agent} handed it back")
    if run.cancel_requested:
        return over(run, RunEvent.CANCELLED, now, why=why, fenced=False)
    return again(run, 0.0, now, counts=None, why=why, ended_as=RunState.RETRYING)


def _check_repeat(run: RunSummary, report: Report) -> None:
    """
    Accept what the holder said before its attempt ended, or says of the end again.

    An attempt after which the run is tried again has ended by a failure, or was handed back.
    """
    if report.state not in TERMINAL:
        return
    if run.status is RunState.RETRYING:
        if report.state in (RunState.FAILED, RunState.TIMEOUT):
            return
    elif report.state is run.status:
        return
    raise IllegalTransition(run.status.value, f"report of {report.state}")


def _times(run: RunSummary, state: RunState, report: Report, now: float) -> dict[str, float | None]:
    # A clock that stands before 1970, or nowhere, is not believed either.
    happened = report.time if report.time is not None and 0 < report.time < now else now
    times: dict[str, float | None] = {}
    if state is RunState.RUNNING and run.status is RunState.PREPARING:
        times["started_at"] = happened
    if state in TERMINAL:
        times["completed_at"] = max(happened, run.started_at or happened)
        times["eta_seconds"] = None
    return times


def _why(report: Report) -> dict[str, Any]:
    """Return what a report says of why its attempt ended."""
    fields: dict[str, Any] = {}
    if report.exit_code is not None:
        fields["exit_code"] = report.exit_code
    if report.error is not None:
        fields["error_code"] = _text(report.error.code, MAX_WORD)
        fields["error_message"] = _text(report.error.message, MAX_TEXT)
    return fields


def _ending(run: RunSummary, state: RunState, report: Report) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "unreachable": False,
        "pause_requested": False,
        "silent": False,
        **_why(report),
    }
    if state is RunState.COMPLETED:
        fields["progress_percent"] = 100.0
        fields["published_attempt"] = run.attempt
    return fields


def _outcome(run: RunSummary) -> dict[str, Any]:
    if run.status is not RunState.COMPLETED:
        return {}
    return {"result_summary": {"output_count": run.result_count}, "performance_metrics": {}}
