"""
Leases and reports: who carries out what, and what became of it.

Promises:

- Every change of a run's record is fenced: attempt and agent are checked in the transaction that
  writes it. Who lost the lease changes nothing.
- A repeat is success: renewing twice, reporting the state that the run is in, reporting the end
  again after a lost answer.
- A deadline that passed marks the run unreachable and takes nothing away.
- A run completes only when every file of its attempt is sealed; that publishes the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

from physicsrunner.core.lease import LeaseTerms, check_holder, is_holder, is_past_half_life
from physicsrunner.core.lease import is_overdue as overdue
from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import HELD, TERMINAL, RunState
from physicsrunner.errors import InvalidRequest, LeaseLost, NotAllowed, NotFound, PhysicsRunnerError
from physicsrunner.service import facts
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.feed import Feed
from physicsrunner.service.grants import Grants, lease_change
from physicsrunner.service.progress import ProgressBook
from physicsrunner.service.reports import MAX_UNSEALED, is_progress, progress_fields, reported
from physicsrunner.store.base import Change, Decide, Offer, Store
from physicsrunner.wire import live
from physicsrunner.wire.messages import (
    HeldLease,
    LeaseGrant,
    LeaseRequest,
    RenewalAnswer,
    Renewals,
    Report,
    ReportAnswer,
)

MAX_LEASES = 1000  # in one request


class Seals(Protocol):
    """What a run needs to know of its files before it completes."""

    def unsealed(self, run: str, attempt: int) -> Sequence[str]:
        """Return paths of an attempt's files that are not sealed."""
        ...

    def completing(self, attempts: Collection[tuple[str, int]]) -> AbstractContextManager[None]:
        """Hold the seals of *attempts* as they are."""
        ...


class LeaseService:
    """What agents and runners ask for. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        grants: Grants,
        feed: Feed,
        book: ProgressBook,
        *,
        seals: Seals,
        now: Callable[[], float],
        terms: LeaseTerms,
    ) -> None:
        self._store = store
        self._access = access
        self._grants = grants
        self._feed = feed
        self._book = book
        self._seals = seals
        self._now = now
        self._terms = terms
        self._since = now()

    def acquire(self, identity: Identity, request: LeaseRequest) -> list[LeaseGrant]:
        """
        Lease runs that wait and fit: highest priority first, then the oldest.

        An agent that asks again because the answer was lost is given the same attempts: those that
        were leased to it, of which nothing has been heard since, and which it does not name in
        ``holding``.
        """
        self._access.require(identity, "leases:acquire")
        if identity.kind == "agent" and request.agent != identity.subject:
            raise NotAllowed(f"the token is agent {identity.subject}'s, not {request.agent}'s")
        if not request.agent or not 0 < request.max <= MAX_LEASES:
            raise InvalidRequest(f"agent must be named, and max lie in 1 to {MAX_LEASES}")
        now = self._now()
        self._store.agent_seen(request.agent, now=now, host=request.host, labels=request.labels)
        taken = self._again(request, now)
        room = Room(**vars(request.free))
        for run in taken:
            room = room.without(run)
        if len(taken) < request.max:
            offer = Offer(room, now, tuple(request.labels), request.max - len(taken))
            taken += self._store.acquire(
                offer, lambda run: lease_change(run, request.agent, now, self._terms)
            )
        return [self._grants.grant(self._record(run.id), now) for run in taken]

    def grant(self, identity: Identity, run: str, attempt: int) -> LeaseGrant:
        """Return what the attempt is to do, with a fresh token; raise `LeaseLost` if it is over."""
        agent = self._access.holder(identity, run, attempt, "reports:write")
        record = self._record(run)
        if not is_holder(record, attempt, agent):
            raise LeaseLost(run, attempt)
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
            kept = self._kept(present, now)
            fields = {**kept.run, "agent": agent, "token_issued": now}
            return replace(kept, run=fields, attempt={"agent": agent})

        self._access.require(identity, "runs:claim", run.id)
        answer = self._store.change([(run.id, decide)])[0]
        if isinstance(answer, PhysicsRunnerError):
            raise answer
        return self._record(run.id)

    def renew(self, identity: Identity, renewals: Renewals) -> list[RenewalAnswer]:
        """Keep leases; answer each with its new deadline and what is asked of its holder."""
        now = self._now()
        answers: list[RunSummary | PhysicsRunnerError | None] = [None] * len(renewals.leases)
        fresh: set[int] = set()
        decisions: list[tuple[str, Decide]] = []
        places: list[int] = []
        for place, lease in enumerate(renewals.leases):
            try:
                agent = self._access.holder(identity, lease.run, lease.attempt, "leases:renew")
            except PhysicsRunnerError as error:
                answers[place] = error
                continue
            if identity.kind == "user" and renewals.agent is not None:
                agent = renewals.agent
            decide = self._renewal(identity, lease, agent, partial(fresh.add, place), now)
            decisions.append((lease.run, decide))
            places.append(place)
        for place, answer in zip(places, self._store.change(decisions), strict=True):
            answers[place] = answer
        return [
            self._renewed(lease, answer, place in fresh)
            for place, (lease, answer) in enumerate(zip(renewals.leases, answers, strict=True))
            if answer is not None
        ]

    def _renewal(
        self,
        identity: Identity,
        lease: HeldLease,
        agent: str,
        refresh: Callable[[], None],
        now: float,
    ) -> Decide:
        def decide(run: RunSummary) -> Change | None:
            if run.status in TERMINAL and is_holder(run, lease.attempt, agent):
                return None  # it has just reported the end itself
            check_holder(run, lease.attempt, agent)
            change = self._kept(run, now)
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
            commands=_commands(answer),
        )

    def report(self, identity: Identity, reports: Sequence[Report]) -> list[ReportAnswer]:
        """
        Take what runners say of their attempts; answer each, also when others fail.

        Progress goes to viewers at once and to the database at most once a second a run.
        """
        agents = [self._reporter(identity, report) for report in reports]
        ending = [
            (report.run, report.attempt)
            for report, agent in zip(reports, agents, strict=True)
            if report.state is RunState.COMPLETED and isinstance(agent, str)
        ]
        with self._seals.completing(ending):
            return self._take_reports(reports, agents, self._now())

    def _reporter(self, identity: Identity, report: Report) -> str | PhysicsRunnerError:
        try:
            return self._access.holder(identity, report.run, report.attempt, "reports:write")
        except PhysicsRunnerError as error:
            return error

    def _take_reports(
        self, reports: Sequence[Report], agents: Sequence[str | PhysicsRunnerError], now: float
    ) -> list[ReportAnswer]:
        answers: list[ReportAnswer | None] = [None] * len(reports)
        decisions: list[tuple[str, Decide]] = []
        places: list[int] = []
        for place, (report, agent) in enumerate(zip(reports, agents, strict=True)):
            if isinstance(agent, PhysicsRunnerError):
                answers[place] = _refused(report, agent)
                continue
            try:
                if is_progress(report) and not self._is_due(report, agent, now):
                    answers[place] = self._progress_only(report, agent, now)
                    continue
                decide = self._decision(report, agent, now)
            except PhysicsRunnerError as error:
                answers[place] = _refused(report, error)
                continue
            decisions.append((report.run, decide))
            places.append(place)
        if decisions:
            for place, answer in zip(places, self._store.change(decisions), strict=True):
                answers[place] = self._reported(reports[place], answer, now)
        return [answer for answer in answers if answer is not None]

    def _is_due(self, report: Report, agent: str, now: float) -> bool:
        run = self._summary(report.run)
        # Contact that comes back is written at once, whatever it says.
        if (
            run.status in TERMINAL
            or run.unreachable
            or not run.confirmed
            or not is_holder(run, report.attempt, agent)
        ):
            return True
        return self._book.put(run.id, run.attempt, progress_fields(report), now)

    def _progress_only(self, report: Report, agent: str, now: float) -> ReportAnswer:
        run = self._summary(report.run)
        if run.status not in TERMINAL:
            check_holder(run, report.attempt, agent)
            self._feed.publish([facts.progress(self._book.overlay(run), now)])
        return ReportAnswer(report.run, report.attempt, run.status, _commands(run))

    def _decision(self, report: Report, agent: str, now: float) -> Decide:
        unsealed: Sequence[str] = ()
        if report.state is RunState.COMPLETED:
            unsealed = self._seals.unsealed(report.run, report.attempt)

        def decide(run: RunSummary) -> Change | None:
            change = reported(run, report, agent, unsealed=unsealed, now=now)
            if change is None:
                return None
            waiting = self._book.take(run, now)
            kept = self._kept(run, now)
            fields = {**kept.run, **waiting, **change.run}
            if fields.get("status", run.status) not in HELD:
                fields["deadline"] = None
            return replace(change, run=fields, events=[*kept.events, *change.events])

        return decide

    def _reported(
        self, report: Report, answer: RunSummary | PhysicsRunnerError, now: float
    ) -> ReportAnswer:
        if isinstance(answer, PhysicsRunnerError):
            return _refused(report, answer)
        if answer.status in TERMINAL:
            self._book.forget(answer.id)
        elif progress_fields(report):
            self._feed.publish([facts.progress(answer, now)])
        return ReportAnswer(report.run, report.attempt, answer.status, _commands(answer))

    def expire(self, now: float) -> list[str]:
        """
        Mark runs unreachable whose deadline has passed; write progress that waits.

        The server's clock loop calls it. After a start nobody is marked before everybody has had
        the time of one lease to renew. Returns the ids of the runs that were marked.
        """
        marked = self._mark_overdue(now) if now >= self._since + self._terms.lease_s else []
        self._flush(now)
        return marked

    def _mark_overdue(self, now: float) -> list[str]:
        def decide(run: RunSummary) -> Change | None:
            if run.unreachable or not overdue(run, now):
                return None
            lost = replace(run, unreachable=True)
            data = {"agent": run.agent, "deadline": run.deadline}
            return Change(
                run={"unreachable": True, "updated_at": now},
                events=[facts.event(lost, live.UNREACHABLE, now, **data)],
            )

        late = self._store.overdue(now)
        answers = self._store.change([(run, decide) for run in late]) if late else []
        return [run.id for run in answers if isinstance(run, RunSummary) and run.unreachable]

    def _flush(self, now: float) -> None:
        def decide(run: RunSummary) -> Change | None:
            fields = self._book.take(run, now)
            return Change(run={**fields, "updated_at": now}) if fields else None

        due = self._book.due(now)
        if due:
            self._store.change([(run, decide) for run in due])

    def _kept(self, run: RunSummary, now: float) -> Change:
        """Return what changes because the holder was heard of."""
        fields = {
            "deadline": self._terms.deadline(now),
            "confirmed": True,
            "unreachable": False,
            "updated_at": now,
        }
        if not run.unreachable:
            return Change(run=fields)
        back = replace(run, unreachable=False)
        return Change(fields, events=[facts.event(back, live.REACHABLE, now, agent=run.agent)])

    def _again(self, request: LeaseRequest, now: float) -> list[RunSummary]:
        held = {(lease.run, lease.attempt) for lease in request.holding}
        lost = [
            run
            for run in self._store.unconfirmed(request.agent)
            if (run.id, run.attempt) not in held
        ][: request.max]

        def decide(run: RunSummary) -> Change | None:
            check_holder(run, run.attempt, request.agent)
            fields = {"deadline": self._terms.deadline(now), "token_issued": now}
            return Change(run={**fields, "unreachable": False})

        answers = self._store.change([(run.id, decide) for run in lost]) if lost else []
        return [run for run in answers if isinstance(run, RunSummary)]

    def _summary(self, run: str) -> RunSummary:
        found = self._store.summary(run)
        if found is None:
            raise NotFound(f"there is no run {run}")
        return found

    def _record(self, run: str) -> RunRecord:
        found = self._store.record(run)
        if found is None:
            raise NotFound(f"there is no run {run}")
        return found


def _refused(report: Report, error: PhysicsRunnerError) -> ReportAnswer:
    unsealed = list(error.args[1]) if error.code == "not_sealed" else []
    return ReportAnswer(
        run=report.run,
        attempt=report.attempt,
        error=error.code,
        detail=str(error.args[0]) if error.code == "not_sealed" else str(error),
        unsealed=unsealed[:MAX_UNSEALED],
    )


def _commands(run: RunSummary) -> list[str]:
    return ["cancel"] if run.cancel_requested and run.status in HELD else []
