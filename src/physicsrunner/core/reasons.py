"""
Why a run is where it is, in words that a person understands.

Pure: what must be known besides the run itself (who offers what, which caps are full, how many are
before it) is a `Situation`, which `service.reasons` gathers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from physicsrunner.core.lease import FAIL, RETRY, after_grace
from physicsrunner.core.resources import Room, has_labels
from physicsrunner.core.retry import tries
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import LEASABLE, TERMINAL, RunState

_UNITS: Final = (
    ("cpu_cores", "core", "cores"),
    ("memory_gb", "GB of memory", "GB of memory"),
    ("gpu_count", "GPU", "GPUs"),
    ("storage_gb", "GB of storage", "GB of storage"),
)


@dataclass(frozen=True)
class Offered:
    """What one agent that takes work has in all, whether free or not."""

    room: Room
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cap:
    """A limit of runs at the same time, and how many there are."""

    whose: str  #: "the server", "project thermal", "study sweep"
    limit: int
    running: int

    @property
    def is_full(self) -> bool:
        """Say whether no more may start."""
        return self.running >= self.limit


@dataclass(frozen=True)
class Situation:
    """What is known besides the run."""

    lease_s: float = 60.0
    grace_s: float = 300.0
    agents: Sequence[Offered] = ()  #: those that take work
    others: int = 0  #: known, and drained, paused or silent
    caps: Sequence[Cap] = ()  #: those that hold for the run
    before: int | None = None  #: runs that are handed out before it; None: not known
    more: bool = False  #: and there are more than `before`
    held_by: str | None = None


def reason(run: RunSummary, situation: Situation, now: float) -> str:
    """Return why *run* is where it is."""
    if run.status in LEASABLE:
        return _waiting(run, situation, now)
    if run.status in TERMINAL:
        return _ended(run)
    return _carried_out(run, situation, now)


def duration(seconds: float) -> str:
    """Return a time as people say it: 90 s, 5 min, 3 h, 2 days."""
    seconds = max(0.0, seconds)
    for least, size, unit in ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _waiting(run: RunSummary, situation: Situation, now: float) -> str:
    if run.held:
        return f"held by {situation.held_by}" if situation.held_by else "held"
    if run.not_before is not None and run.not_before > now:
        why = run.error_message or run.error_code or "the attempt was lost"
        present, most = tries(run)
        count = f" (try {present} of {most})" if run.retry_count else ""
        return f"retrying in {duration(run.not_before - now)}: {why}{count}"
    why_not = _no_agent(run, situation) or _cap(situation) or _before(situation)
    return f"waiting: {why_not or 'the next agent that has room takes it'}"


def _no_agent(run: RunSummary, situation: Situation) -> str | None:
    """Return why no agent can ever take it as they are now; None if one can."""
    if not situation.agents:
        if situation.others:
            return f"none of the {situation.others} known agents takes work now"
        return "no agent is connected"
    fitting = [one for one in situation.agents if has_labels(run, one.labels)]
    if not fitting:
        wanted = ", ".join(run.labels)
        return f"no agent has the label{'s' if len(run.labels) > 1 else ''} {wanted}"
    if any(one.room.fits(run) for one in fitting):
        return None
    for field, singular, plural in _UNITS:
        need = getattr(run, field)
        largest = max(getattr(one.room, field) for one in fitting)
        if need > largest:
            wanted = _amount(need, singular, plural)
            return f"no agent offers {wanted}; the largest offers {largest:g}"
    needs = [_amount(getattr(run, field), *units) for field, *units in _UNITS]
    return f"no agent offers {' and '.join(need for need in needs if need)} at once"


def _amount(number: float, singular: str, plural: str) -> str:
    return f"{number:g} {singular if number == 1 else plural}" if number else ""


def _cap(situation: Situation) -> str | None:
    for cap in situation.caps:
        if cap.is_full:
            return f"{cap.whose} already runs {cap.running} of {cap.limit}"
    return None


def _before(situation: Situation) -> str | None:
    if not situation.before:
        return None
    if situation.before == 1 and not situation.more:
        return "1 run is before it"
    return f"{'more than ' if situation.more else ''}{situation.before} runs are before it"


def _carried_out(run: RunSummary, situation: Situation, now: float) -> str:
    where = run.agent or "an agent"
    if run.unreachable:
        return _unreachable(run, where, situation, now)
    word = {RunState.PREPARING: "preparing", RunState.PAUSED: "paused"}.get(run.status, "running")
    said = f"{word} on {where}"
    if run.cancel_requested:
        return f"{said}: it was asked to stop"
    if run.pause_requested and run.status is RunState.RUNNING:
        return f"{said}: it was asked to pause"
    if not run.pause_requested and run.status is RunState.PAUSED:
        return f"{said}: it was asked to go on"
    if run.silent and run.silence_limit_s is not None:
        return f"{said}: no output for more than {duration(run.silence_limit_s)}"
    return said


def _unreachable(run: RunSummary, where: str, situation: Situation, now: float) -> str:
    deadline = run.deadline if run.deadline is not None else now
    silence = duration(now - deadline + situation.lease_s)
    said = f"unreachable: {where} has not been heard of for {silence}"
    follows = {RETRY: "another agent gets it", FAIL: "it is counted as failed"}.get(
        after_grace(run)
    )
    if follows is None:
        return f"{said}; it is waited for"
    return f"{said}; in {duration(deadline + situation.grace_s - now)} {follows}"


def _ended(run: RunSummary) -> str:
    if run.status is RunState.COMPLETED:
        return "completed: main.py ended with 0 and all files are stored"
    if run.status is RunState.CANCELLED:
        return "cancelled: somebody asked for it"
    word = "timeout" if run.status is RunState.TIMEOUT else "failed"
    return f"{word}: {run.error_message or run.error_code or 'it was not said why'}"
