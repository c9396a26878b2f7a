"""
The rules of a lease: one agent's right to one attempt of one run until a deadline.

Promises:

- Only `check_holder` says who may change a run's record. It knows no exception.
- A deadline that has passed takes nothing away: it marks the run unreachable. The same holder may
  come back and go on; another may come only after the server has given the attempt up.

Pure: the time is an argument, a caller's clock is never compared with another machine's.
"""

from __future__ import annotations

from dataclasses import dataclass

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD
from physicsrunner.errors import LeaseLost


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


def is_past_half_life(issued: float, lifetime_s: float, now: float) -> bool:
    """Say whether a token of *issued* that lives *lifetime_s* should be replaced by a fresh one."""
    return now >= issued + lifetime_s / 2
