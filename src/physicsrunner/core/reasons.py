"""
Why a run is where it is, in words that a person understands.

Pure: what must be known besides the run itself (who offers what, which caps are full, how many are
before it) is a `Situation`, which `service.reasons` gathers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from physicsrunner.core.lease import FAIL, RETRY, after_grace
from physicsrunner.core.resources import Room, has_labels
from physicsrunner.core.retry import tries
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import LEASABLE, TERMINAL, RunState

_NAMED: Final = 3  # agents that are named before the rest is counted
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
class Away:
    """One known agent that takes no work now, and why, in words."""

    name: str
    why: str  #: "drained by ada", "not heard of for 6 min"
    room: Room = field(default_factory=Room)
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
    others: Sequence[Away] = ()  #: drained, paused or silent
    caps: Sequence[Cap] = ()  #: those that hold for the run
    before: int | None = 0  #: runs that are handed out before it; None: not known
    more: bool = False  #: and there are more than `before`
    asked_by: str | None = None  #: who held it, or asked its holder for something


def reason(run: RunSummary, situation: Situation, now: float) -> str:
    """Return why *run* is where it is."""
    if run.status in LEASABLE:
        return _waiting(run, situation, now)
    if run.status in TERMINAL:
        return _ended(run, situation)
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
        return f"held by {situation.asked_by}" if situation.asked_by else "held"
    if run.not_before is not None and run.not_before > now:
        why = run.error_message or run.error_code or "the attempt was lost"
        present, most = tries(run)
        count = f" (try {present} of {most})" if run.retry_count else ""
        return f"retrying in {duration(run.not_before - now)}: {why}{count}"
    why_not = _no_agent(run, situation) or _cap(situation)
    if why_not is None and situation.before is None:
        return "waiting for its turn"
    return f"waiting: {why_not or _before(situation) or 'the next agent that has room takes it'}"


def _no_agent(run: RunSummary, situation: Situation) -> str | None:
    """Return why no agent can ever take it as they are now; None if one can."""
    if not situation.agents:
        return _all_away(situation.others) if situation.others else "no agent is connected"
    missing = _missing(run, situation)
    if missing is None:
        return None
    for one in situation.others:
        if has_labels(run, one.labels) and one.room.fits(run):
            return f"{missing}; {one.name} takes no work now: {one.why}"
    return missing


def _all_away(others: Sequence[Away]) -> str:
    if len(others) == 1:
        return f"the only agent, {others[0].name}, takes no work now: {others[0].why}"
    named = [f"{one.name} ({one.why})" for one in others[:_NAMED]]
    if len(others) > _NAMED:
        named.append(f"{len(others) - _NAMED} more")
    return f"none of the {len(others)} known agents takes work now: {', '.join(named)}"


def _missing(run: RunSummary, situation: Situation) -> str | None:
    """Return what no agent that takes work has; None if one has all of it."""
    fitting = [one for one in situation.agents if has_labels(run, one.labels)]
    if not fitting:
        wanted = ", ".join(run.labels)
        return f"no agent has the label{'s' if len(run.labels) > 1 else ''} {wanted}"
    if any(one.room.fits(run) for one in fitting):
        return None
    for name, *units in _UNITS:
        need = getattr(run, name)
        largest = max(getattr(one.room, name) for one in fitting)
        if need > largest:
            wanted = _amount(need, *units)
            return f"no agent offers {wanted}; the largest offers {largest:g}"
    needs = [_amount(getattr(run, name), *units) for name, *units in _UNITS]
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
    asked = _asked(run)
    if asked is not None:
        who = situation.asked_by
        return f"{said}: {f'{who} asked it' if who else 'it was asked'} to {asked}"
    if run.status is RunState.PAUSED and situation.asked_by:
        return f"{said} by {situation.asked_by}"
    if run.silent and run.silence_limit_s is not None:
        return f"{said}: no output for more than {duration(run.silence_limit_s)}"
    return said


def _asked(run: RunSummary) -> str | None:
    """Return what the holder was asked to do and has not done yet."""
    if run.cancel_requested:
        return "stop"
    if run.status is RunState.PAUSED:
        return None if run.pause_requested else "go on"
    return "pause" if run.pause_requested else None


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


def _ended(run: RunSummary, situation: Situation) -> str:
    if run.status is RunState.COMPLETED:
        return "completed: main.py ended with 0 and all files are stored"
    if run.status is RunState.CANCELLED:
        return (
            f"cancelled by {situation.asked_by}" if situation.asked_by else "cancelled on request"
        )
    word = "timeout" if run.status is RunState.TIMEOUT else "failed"
    return f"{word}: {run.error_message or run.error_code or 'it was not said why'}"
