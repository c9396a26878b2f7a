"""
How the queue stands: how many runs are in which state, which wait longest and why, and the agents.

Promises: its cost does not grow with the number of runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from physicsrunner.core.state import LEASABLE, RunState
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.fleet import AgentInfo, FleetService
from physicsrunner.service.reasons import Reasons
from physicsrunner.store.base import Store

OLDEST: Final = 20


@dataclass(frozen=True)
class Waiting:
    """A run that waits, and why."""

    id: str
    number: int
    name: str
    priority: int
    project_id: str | None
    created_at: float
    waits_s: float
    reason: str


@dataclass(frozen=True)
class QueueStatus:
    """The queue at one moment."""

    counts: dict[str, int]  #: runs by state; a state without runs is there with 0
    waiting: int  #: queued, held and retrying
    max_concurrent_runs: int | None  #: of the server; None: no limit
    oldest_waiting_s: float | None  #: of those listed in `next`; None: nothing waits
    next: list[Waiting]  #: the first ones, in the queue's order
    agents: list[AgentInfo]


class QueueService:
    """What people ask of the queue as a whole. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        fleet: FleetService,
        reasons: Reasons,
        *,
        now: Callable[[], float],
        max_concurrent_runs: int | None = None,
    ) -> None:
        self._store = store
        self._access = access
        self._fleet = fleet
        self._reasons = reasons
        self._now = now
        self._cap = max_concurrent_runs

    def status(self, identity: Identity) -> QueueStatus:
        """Return how the queue stands; runs that the caller may not read are counted, not named."""
        self._access.require(identity, "queue:read")
        now = self._now()
        counts = self._store.counts("all")
        first = self._store.oldest_waiting(OLDEST)
        reasons = self._reasons.of_many(first)
        shown = [
            Waiting(
                run.id,
                run.number,
                run.name,
                run.priority,
                run.project_id,
                run.created_at,
                max(0.0, now - run.created_at),
                why,
            )
            for run, why in zip(first, reasons, strict=True)
            if self._access.may(identity, "runs:read", run)
        ]
        may_see = identity.scope("agents:read").value > 0
        return QueueStatus(
            counts={state.value: counts.get(state, 0) for state in RunState},
            waiting=sum(counts.get(state, 0) for state in LEASABLE),
            max_concurrent_runs=self._cap,
            oldest_waiting_s=max((now - run.created_at for run in first), default=None),
            next=shown,
            agents=self._fleet.agents(identity) if may_see else [],
        )
