"""
The rules of a lease: one agent's right to one attempt of one run until a deadline.

Promises:

- Only `check_holder` says who may change a run's record. It knows no exception.
- A deadline that has passed takes nothing away: it marks the run unreachable. The same holder may
  come back and go on; another may come only after the server has given the attempt up, and that
  it does when the grace time is over too and the run says so (`after_grace`).
- `commands` are computed from the run as it is: a command that got lost comes again.

Pure: the time is an argument, a caller's clock is never compared with another machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, LEASABLE, RunState
from physicsrunner.errors import LeaseLost

#: What a run can ask for when contact is lost for longer than the grace time.
WAIT: Final = "wait"
RETRY: Final = "retry"
FAIL: Final = "fail"
ON_LOST_CONTACT: Final = (WAIT, RETRY, FAIL)

CANCEL: Final = "cancel"
PAUSE: Final = "pause"
RESUME: Final = "resume"


@dataclass(frozen=True)
class LeaseTerms:
    """How long leases and tokens last, all in seconds."""

    lease_s: float = 60.0
    renew_s: float = 15.0
    token_s: float = 3600.0  #: life of an attempt's token
    grace_s: float = 300.0  #: after the deadline, before the run's `on_lost_contact` decides

    def deadline(self, now: float) -> float:
        """Return until when a lease that is granted or renewed *now* holds."""
        return now + self.lease_s


def is_holder(run: RunSummary, attempt: int, agent: str | None) -> bool:
    """Say whether *attempt* and *agent* are those of the run's latest lease."""
    return run.attempt == attempt and run.agent is not None and run.agent == agent


def check_holder(run: RunSummary, attempt: int, agent: str | None) -> None:
    """
    Raise `LeaseLost` unless *agent* holds *attempt* of *run* now.

    Both must fit: the attempt's number fences off agents that lost it, the agent's name those
    that only know the number.
    """
    if run.status not in HELD or not is_holder(run, attempt, agent):
        raise LeaseLost(run.id, attempt)


def is_overdue(run: RunSummary, now: float) -> bool:
    """Say whether the run's holder should have renewed before *now*."""
    return run.status in HELD and run.deadline is not None and now > run.deadline


def is_lost(run: RunSummary, now: float, grace_s: float) -> bool:
    """Say whether the grace time after a missed deadline is over, too."""
    return (
        run.status in HELD
        and run.unreachable
        and run.deadline is not None
        and now > run.deadline + grace_s
    )


def after_grace(run: RunSummary) -> str:
    """
    Return what follows when the grace time is over: wait, retry or fail.

    A run that its creator carries out cannot be given to another: it is waited for.
    """
    return WAIT if run.claimed and run.on_lost_contact == RETRY else run.on_lost_contact


def stops_when_lost(run: RunSummary) -> bool:
    """Say whether a holder without contact stops its program when the grace time is over."""
    return after_grace(run) != WAIT


def waited_too_long(run: RunSummary, now: float) -> bool:
    """
    Say whether a run has waited for an agent for longer than it allows.

    The wait begins when the run is created, or when it may be tried again. A run that a person
    holds does not wait in this sense.
    """
    if run.status not in LEASABLE or run.held or run.queue_limit_s is None:
        return False
    since = run.created_at if run.status is RunState.QUEUED else (run.not_before or run.updated_at)
    return now > since + run.queue_limit_s


def commands(run: RunSummary) -> list[str]:
    """Return what the run's holder is asked to do now."""
    if run.status not in HELD:
        return []
    if run.cancel_requested:
        return [CANCEL]
    if run.pause_requested and run.status is RunState.RUNNING:
        return [PAUSE]
    if not run.pause_requested and run.status is RunState.PAUSED:
        return [RESUME]
    return []


def is_past_half_life(issued: float, lifetime_s: float, now: float) -> bool:
    """Say whether a token of *issued* that lives *lifetime_s* should be replaced by a fresh one."""
    return now >= issued + lifetime_s / 2
