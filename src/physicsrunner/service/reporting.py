"""
Taking reports: what runners say of their attempts, many in one call and one transaction.

Promises: a report changes nothing unless its sender holds the attempt, which is checked in the
transaction that writes; each is answered, also when others of the same call fail; progress goes to
viewers at once and to the database at most once a second a run. A run completes only when every
file of its attempt is sealed, and nobody can open one in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from physicsrunner.core import breaker
from physicsrunner.core.lease import LeaseTerms, commands, is_holder
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, RunState
from physicsrunner.errors import LeaseLost, PhysicsRunnerError
from physicsrunner.service import facts
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.feed import Feed
from physicsrunner.service.grants import kept_change
from physicsrunner.service.progress import ProgressBook
from physicsrunner.service.reports import MAX_UNSEALED, is_progress, progress_fields, reported
from physicsrunner.store.base import Change, Decide, Store
from physicsrunner.store.rows import Sealed
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import Report, ReportAnswer


class Seals(Protocol):
    """What a run needs to know of its files before it completes."""

    def unsealed(self, run: str, attempt: int) -> Sequence[str]:
        """Return paths of an attempt's files that are not sealed."""
        ...

    def completing(self, attempts: Collection[tuple[str, int]]) -> AbstractContextManager[None]:
        """Hold the seals of *attempts* as they are."""
        ...


@dataclass(frozen=True)
class Start:
    """How an attempt began on its agent: main.py was started, or it failed before."""

    agent: str
    failed: bool
    said: str | None = None  #: what its failure said


@dataclass
class _Batch:
    """What one call's reports come to."""

    decisions: list[tuple[str, Decide]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    shown: list[Event] = field(default_factory=list)


class Reporting:
    """Takes reports. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        feed: Feed,
        book: ProgressBook,
        *,
        seals: Seals,
        now: Callable[[], float],
        terms: LeaseTerms,
        started: Callable[[Sequence[Start]], None],
    ) -> None:
        self._store = store
        self._access = access
        self._feed = feed
        self._book = book
        self._seals = seals
        self._now = now
        self._terms = terms
        self._started = started

    def take(
        self, identity: Identity, reports: Sequence[Report], sealed: Sealed | None = None
    ) -> list[ReportAnswer]:
        """
        Take *reports* in their order; return one answer for each.

        *sealed* is kept in the same transaction. Who gives it holds its attempts, and those that
        reports say are completed, as `Seals.completing` does.
        """
        senders = [self._sender(identity, report) for report in reports]
        ending = [
            (report.run, report.attempt)
            for report, sender in zip(reports, senders, strict=True)
            if report.state is RunState.COMPLETED and isinstance(sender, str)
        ]
        with nullcontext() if sealed is not None else self._seals.completing(ending):
            answers, starts = self._take(identity, reports, senders, sealed)
        if starts:
            self._started(starts)
        return answers

    def _sender(self, identity: Identity, report: Report) -> str | PhysicsRunnerError:
        """Return as which agent *identity* speaks; whether it holds the attempt is seen later."""
        try:
            if identity.kind == "agent":
                self._access.require(identity, "reports:write")
                return identity.subject
            return self._access.holder(identity, report.run, report.attempt, "reports:write")
        except PhysicsRunnerError as error:
            return error

    def _take(
        self,
        identity: Identity,
        reports: Sequence[Report],
        senders: Sequence[str | PhysicsRunnerError],
        sealed: Sealed | None,
    ) -> tuple[list[ReportAnswer], list[Start]]:
        now = self._now()
        answers: list[ReportAnswer | None] = [None] * len(reports)
        batch = _Batch()
        present = self._present(reports, senders)
        for place, (report, sender) in enumerate(zip(reports, senders, strict=True)):
            if isinstance(sender, PhysicsRunnerError):
                answers[place] = _refused(report, sender)
                continue
            run = present.get(report.run)
            if run is not None and not self._is_due(run, report, sender, now):
                answers[place] = self._progress_only(run, report, now, batch)
                continue
            batch.decisions.append((report.run, self._decision(report, sender, now, batch)))
            batch.places.append(place)
        changed: Sequence[RunSummary | PhysicsRunnerError] = []
        if batch.decisions or sealed is not None:
            changed = self._store.change(batch.decisions, by=identity.actor, sealed=sealed)
        for place, answer in zip(batch.places, changed, strict=True):
            answers[place] = self._answer(identity, reports[place], answer, now, batch)
        self._feed.publish(batch.shown)
        return [answer for answer in answers if answer is not None], batch.starts

    def _present(
        self, reports: Sequence[Report], senders: Sequence[str | PhysicsRunnerError]
    ) -> Mapping[str, RunSummary]:
        """Return the runs of which nothing but progress is said."""
        named = {
            report.run
            for report, sender in zip(reports, senders, strict=True)
            if isinstance(sender, str) and is_progress(report)
        }
        return self._store.summaries(sorted(named)) if named else {}

    def _is_due(self, run: RunSummary, report: Report, sender: str, now: float) -> bool:
        if not is_progress(report):
            return True
        # Contact that comes back is written at once, whatever it says.
        if (
            run.status not in HELD
            or run.unreachable
            or not run.confirmed
            or not is_holder(run, report.attempt, sender)
        ):
            return True
        return self._book.put(run.id, run.attempt, progress_fields(report), now)

    def _progress_only(
        self, run: RunSummary, report: Report, now: float, batch: _Batch
    ) -> ReportAnswer:
        batch.shown.append(facts.progress(self._book.overlay(run), now))
        return ReportAnswer(report.run, report.attempt, run.status, commands(run))

    def _decision(self, report: Report, sender: str, now: float, batch: _Batch) -> Decide:
        unsealed: Sequence[str] = ()
        if report.state is RunState.COMPLETED:
            unsealed = self._seals.unsealed(report.run, report.attempt)

        def decide(run: RunSummary) -> Change | None:
            change = reported(run, report, sender, unsealed=unsealed, now=now)
            if change is None:
                return None
            waiting = self._book.take(run, now)
            kept = kept_change(run, now, self._terms)
            fields = {**kept.run, **waiting, **change.run}
            status = fields.get("status", run.status)
            if status not in HELD:
                fields["deadline"] = None
            batch.starts.extend(_start_of(run, status, report))
            return replace(change, run=fields, events=[*kept.events, *change.events])

        return decide

    def _answer(
        self,
        identity: Identity,
        report: Report,
        answer: RunSummary | PhysicsRunnerError,
        now: float,
        batch: _Batch,
    ) -> ReportAnswer:
        if isinstance(answer, LeaseLost) and identity.kind == "agent":
            answer = self.whose(identity, report.run, report.attempt, "reports:write") or answer
        if isinstance(answer, PhysicsRunnerError):
            return _refused(report, answer)
        if answer.status not in HELD:
            self._book.forget(answer.id)
        elif progress_fields(report):
            batch.shown.append(facts.progress(answer, now))
        return ReportAnswer(report.run, report.attempt, answer.status, commands(answer))

    def whose(
        self, identity: Identity, run: str, attempt: int, permission: str
    ) -> PhysicsRunnerError | None:
        """Return the better answer for an agent that never had the attempt; None: it had it."""
        try:
            self._access.holder(identity, run, attempt, permission)
        except PhysicsRunnerError as error:
            return error
        return None


def _start_of(run: RunSummary, status: RunState, report: Report) -> list[Start]:
    if run.status is not RunState.PREPARING or run.claimed or run.agent is None:
        return []
    if status is RunState.RUNNING:
        return [Start(run.agent, failed=False)]
    if report.state is RunState.FAILED and not run.cancel_requested:
        code, said = None, None
        if report.error is not None:
            code, said = report.error.code, report.error.message
        if not breaker.counts(code):
            return []
        return [Start(run.agent, failed=True, said=said)]
    return []


def _refused(report: Report, error: PhysicsRunnerError) -> ReportAnswer:
    unsealed = list(error.args[1]) if error.code == "not_sealed" else []
    return ReportAnswer(
        run=report.run,
        attempt=report.attempt,
        error=error.code,
        detail=str(error.args[0]) if error.code == "not_sealed" else str(error),
        unsealed=unsealed[:MAX_UNSEALED],
    )
