"""
Leases: who carries out what, for how long, and what is asked of them meanwhile.

Promises:

- Every change of a run's record is fenced: attempt and agent are checked in the transaction that
  writes it. Who lost the lease changes nothing.
- A repeat is success: asking again, renewing twice, reporting the end again after a lost answer.
- Renewing many leases is one transaction and reads nothing one by one.

What reports change is `service.reporting`'s, what time changes `service.clock`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from physicsrunner.core.lease import (
    LeaseTerms,
    check_holder,
    commands,
    is_holder,
    is_past_half_life,
)
from physicsrunner.core.resources import Room, labels_of
from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import HELD, TERMINAL
from physicsrunner.errors import InvalidRequest, LeaseLost, NotAllowed, NotFound, PhysicsRunnerError
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.clock import QueueClock
from physicsrunner.service.grants import Grants, kept_change, lease_change
from physicsrunner.service.patience import Patience
from physicsrunner.service.presence import Presence
from physicsrunner.service.reporting import Reporting
from physicsrunner.store.base import Change, Decide, Offer, Store
from physicsrunner.store.rows import Sealed
from physicsrunner.wire.messages import (
    HeldLease,
    LeaseGrant,
    LeaseRequest,
    RenewalAnswer,
    Renewals,
    Report,
    ReportAnswer,
)

MAX_LEASES: Final = 1000  # in one request


class LeaseService:
    """What agents and runners ask for. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        grants: Grants,
        reporting: Reporting,
        clock: QueueClock,
        presence: Presence,
        patience: Patience,
        *,
        now: Callable[[], float],
        terms: LeaseTerms,
        max_concurrent_runs: int | None = None,
    ) -> None:
        self._store = store
        self._access = access
        self._grants = grants
        self._reporting = reporting
        self._clock = clock
        self._presence = presence
        self._patience = patience
        self._now = now
        self._terms = terms
        self._caps = max_concurrent_runs

    def acquire(self, identity: Identity, request: LeaseRequest) -> list[LeaseGrant]:
        """
        Lease runs that wait and fit: highest priority first, then the oldest.

        An agent that asks again because the answer was lost is given the same attempts: those that
        were leased to it, of which nothing has been heard since, and which it does not name in
        ``holding``. One that is drained or paused is given nothing new, and one that is kept free
        for a run that has waited for long (`service.patience`) nothing behind it.
        """
        self._access.require(identity, "leases:acquire")
        if identity.kind == "agent" and request.agent != identity.subject:
            raise NotAllowed(f"the token is agent {identity.subject}'s, not {request.agent}'s")
        if not request.agent or not 0 < request.max <= MAX_LEASES:
            raise InvalidRequest(f"agent must be named, and max lie in 1 to {MAX_LEASES}")
        now = self._now()
        self._presence.asked(request, now)
        taken = self._again(request, now)
        room = Room(**vars(request.free))
        for run in taken:
            room = room.without(run)
        if len(taken) < request.max:
            offer = Offer(
                room,
                now,
                labels_of(request.agent, request.labels),
                request.max - len(taken),
                caps=self._caps,
                agent=request.agent,
                last=self._patience.last_place(request, room, now),
            )
            taken += self._store.acquire(
                offer,
                lambda run: lease_change(run, request.agent, now, self._terms),
                by=identity.actor,
            )
        return self._grants.grant_all([run.id for run in taken], now)

    def grant(self, identity: Identity, run: str, attempt: int) -> LeaseGrant:
        """Return what the attempt is to do, with a fresh token; raise `LeaseLost` if it is over."""
        agent = self._access.holder(identity, run, attempt, "reports:write")
        record = self._record(run)
        if not is_holder(record, attempt, agent):
            raise LeaseLost(run, attempt)
        self._access.require_carrier(record)
        return self._grants.grant(record, self._now())

    def claim_again(self, identity: Identity, run: RunRecord, agent: str) -> RunRecord:
        """
        Give a run that was claimed to its creator once more, also from another machine.

        A run that has ended stays as it is: its late files may still be sent.
        """
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status in TERMINAL:
                return None
            if present.status not in HELD:
                return lease_change(present, agent, now, self._terms, claimed=True)
            if not present.claimed:
                raise NotAllowed(f"run {present.id} is carried out by agent {present.agent}")
            kept = kept_change(present, now, self._terms)
            fields = {**kept.run, "agent": agent, "token_issued": now}
            return replace(kept, run=fields, attempt={"agent": agent})

        self._access.require(identity, "runs:claim", run)
        answer = self._store.change([(run.id, decide)], by=identity.actor)[0]
        if isinstance(answer, PhysicsRunnerError):
            raise answer
        return self._record(run.id)

    def renew(self, identity: Identity, renewals: Renewals) -> list[RenewalAnswer]:
        """Keep leases; answer each with its new deadline and what is asked of its holder."""
        agent = renewals.agent if identity.kind == "user" else None
        return self.renew_all(identity, renewals.leases, agent, self._now())

    def renew_all(
        self, identity: Identity, leases: Sequence[HeldLease], agent: str | None, now: float
    ) -> list[RenewalAnswer]:
        """Keep *leases* in one transaction; *agent*: as whom a person speaks who may for all."""
        answers: list[RunSummary | PhysicsRunnerError | None] = [None] * len(leases)
        fresh: set[int] = set()
        decisions: list[tuple[str, Decide]] = []
        places: list[int] = []
        for place, lease in enumerate(leases):
            holder = self._holder(identity, lease)
            if isinstance(holder, PhysicsRunnerError):
                answers[place] = holder
                continue
            refresh = partial(fresh.add, place)
            decide = self._renewal(identity, lease, agent or holder, refresh, now)
            decisions.append((lease.run, decide))
            places.append(place)
        changed = self._store.change(decisions, by=identity.actor) if decisions else []
        for place, answer in zip(places, changed, strict=True):
            answers[place] = self._better(identity, leases[place], answer)
        return [
            self._renewed(lease, answer, place in fresh)
            for place, (lease, answer) in enumerate(zip(leases, answers, strict=True))
            if answer is not None
        ]

    def _holder(self, identity: Identity, lease: HeldLease) -> str | PhysicsRunnerError:
        """Return as which agent *identity* speaks; whether it holds the lease is seen later."""
        try:
            if identity.kind == "agent":
                self._access.require(identity, "leases:renew")
                return identity.subject
            agent = self._access.holder(identity, lease.run, lease.attempt, "leases:renew")
            if identity.kind == "attempt":
                run = self._record(lease.run)
                if run.status in HELD:  # of one that is over its holder hears that
                    self._access.require_carrier(run)
            return agent
        except PhysicsRunnerError as error:
            return error

    def _better(
        self, identity: Identity, lease: HeldLease, answer: RunSummary | PhysicsRunnerError
    ) -> RunSummary | PhysicsRunnerError:
        if not isinstance(answer, LeaseLost) or identity.kind != "agent":
            return answer
        return self._reporting.whose(identity, lease.run, lease.attempt, "leases:renew") or answer

    def _renewal(
        self,
        identity: Identity,
        lease: HeldLease,
        agent: str,
        refresh: Callable[[], None],
        now: float,
    ) -> Decide:
        def decide(run: RunSummary) -> Change | None:
            if run.status not in HELD and is_holder(run, lease.attempt, agent):
                return None  # it has just reported the end itself
            check_holder(run, lease.attempt, agent)
            change = kept_change(run, now, self._terms)
            issued = identity.issued if identity.kind == "attempt" else run.token_issued or 0.0
            if not is_past_half_life(issued, self._terms.token_s, now):
                return change
            refresh()
            return replace(change, run={**change.run, "token_issued": now})

        return decide

    def _renewed(
        self, lease: HeldLease, answer: RunSummary | PhysicsRunnerError, fresh: bool
    ) -> RenewalAnswer:
        if isinstance(answer, PhysicsRunnerError):
            return RenewalAnswer(lease.run, lease.attempt, error=answer.code)
        token = None
        if fresh:
            token = self._access.attempt_token(lease.run, lease.attempt, answer.agent or "")
        return RenewalAnswer(
            run=lease.run,
            attempt=lease.attempt,
            deadline=answer.deadline,
            renew_s=self._terms.renew_s,
            token=token,
            commands=commands(answer),
        )

    def report(
        self, identity: Identity, reports: Sequence[Report], sealed: Sealed | None = None
    ) -> list[ReportAnswer]:
        """
        Take what runners say of their attempts; answer each, also when others fail.

        Progress goes to viewers at once, to the database at most once a second a run (`progress`).
        *sealed* is kept in the same transaction, as `Reporting.take` says.
        """
        return self._reporting.take(identity, reports, sealed)

    def expire(self, now: float) -> list[str]:
        """
        Do what is due because time has passed; return the ids of runs marked unreachable.

        The server's clock loop calls it.
        """
        return self._clock.look(now)

    def _again(self, request: LeaseRequest, now: float) -> list[RunSummary]:
        held = {(lease.run, lease.attempt) for lease in request.holding}
        known = self._store.unconfirmed(request.agent)
        lost = dict([attempt for attempt in known if attempt not in held][: request.max])

        def decide(run: RunSummary) -> Change | None:
            check_holder(run, lost[run.id], request.agent)
            kept = kept_change(run, now, self._terms)
            # The answer may be lost again: it is confirmed when it is heard of.
            return replace(kept, run={**kept.run, "confirmed": False, "token_issued": now})

        answers = self._store.change([(run, decide) for run in lost]) if lost else []
        return [run for run in answers if isinstance(run, RunSummary)]

    def _record(self, run: str) -> RunRecord:
        found = self._store.record(run)
        if found is None:
            raise NotFound(f"there is no run {run}")
        return found
