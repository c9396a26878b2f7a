"""
What a report changes in a run. Pure: the store calls it inside its transaction.

Promises: the fence is checked before anything else; a report of the state that the run is in
changes nothing of it; times in the future are not believed. What no database could keep or no
answer could carry (half a character, a number without end) is left out or refused with its report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from physicsrunner.core.lease import check_holder, is_holder
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import TERMINAL, RunState, event_for, next_state
from physicsrunner.errors import IllegalTransition, InvalidRequest, NotSealed
from physicsrunner.service import facts
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
    return all(
        value is None for value in (report.state, report.exit_code, report.error, report.results)
    )


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
    if run.status in TERMINAL and is_holder(run, report.attempt, agent):
        _check_repeat(run, report)
        return None
    check_holder(run, report.attempt, agent)
    if report.exit_code is not None and report.exit_code not in EXIT_CODES:
        raise InvalidRequest(f"exit_code {report.exit_code} is none")
    check_depth([result.value for result in report.results or ()], "results")
    fields = progress_fields(report)
    body: dict[str, Any] = {}
    events: list[Event] = []
    attempt: dict[str, Any] = {}
    if report.results is not None:
        body["results"] = [encode(result) for result in report.results]
        fields["result_count"] = len(report.results)
    event = None if report.state is None else event_for(run.status, report.state)
    if event is not None:
        fields["status"] = next_state(run.status, event)
        if report.state is RunState.COMPLETED and unsealed:
            raise NotSealed(f"{len(unsealed)} files are not sealed", tuple(unsealed))
        fields.update(_times(run, fields["status"], report, now))
        if fields["status"] in TERMINAL:
            fields.update(_ending(run, fields["status"], report))
    after = replace(run, **fields)
    if report.results is not None:
        data = {"output_count": len(report.results)}
        events.append(facts.event(after, live.RESULTS, now, **data))
    if event is not None:
        events.append(facts.moved(after, run.status, now, _outcome(after)))
        attempt = _attempt(after)
    return Change(run=fields, body=body, attempt=attempt, events=events)


def _check_repeat(run: RunSummary, report: Report) -> None:
    """Accept what the holder said before the end, or says of the end again."""
    if report.state in TERMINAL and report.state is not run.status:
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


def _ending(run: RunSummary, state: RunState, report: Report) -> dict[str, Any]:
    fields: dict[str, Any] = {"unreachable": False}
    if report.exit_code is not None:
        fields["exit_code"] = report.exit_code
    if report.error is not None:
        fields["error_code"] = _text(report.error.code, MAX_WORD)
        fields["error_message"] = _text(report.error.message, MAX_TEXT)
    if state is RunState.COMPLETED:
        fields["progress_percent"] = 100.0
        fields["published_attempt"] = run.attempt
    return fields


def _attempt(run: RunSummary) -> dict[str, Any]:
    return {
        "state": run.status.value,
        "started_at": run.started_at,
        "ended_at": run.completed_at,
        "exit_code": run.exit_code,
        "error_code": run.error_code,
        "error_message": run.error_message,
    }


def _outcome(run: RunSummary) -> dict[str, Any]:
    if run.status is not RunState.COMPLETED:
        return {}
    return {"result_summary": {"output_count": run.result_count}, "performance_metrics": {}}
