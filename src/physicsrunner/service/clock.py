"""
What happens because time passes: leases that ran out, grace times, limits of the wait in the queue.

Promises: nobody is marked before everybody had the time of one lease to renew after the server
started; a mark takes nothing away. What follows when the grace time is over too, the run itself
says (`on_lost_contact`), and never before everybody had that time since the server, stopped for a
while, runs again. Each step is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from physicsrunner.core.lease import LeaseTerms, is_lost, is_overdue, waited_too_long
from physicsrunner.core.reasons import duration
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunEvent
from physicsrunner.service import facts
from physicsrunner.service.endings import QUEUE_TIMEOUT, given_up, over
from physicsrunner.service.progress import ProgressBook
from physicsrunner.store.base import Change, Decide, Store
from physicsrunner.wire import live

#: Between two looks; if more time than this and a lease has passed, this process did not run.
STALL_S: Final = 5.0


class QueueClock:
    """Looks at the queue from time to time. One thread calls it."""

    def __init__(
        self, store: Store, book: ProgressBook, *, now: Callable[[], float], terms: LeaseTerms
    ) -> None:
        self._store = store
        self._book = book
        self._terms = terms
        self._since = self._awake = self._last = now()

    def look(self, now: float) -> list[str]:
        """
        Do what is due; return the ids of the runs that were marked unreachable.

        Parameters
        ----------
        now
            POSIX seconds; it need not go on evenly.
        """
        if now - self._last > self._terms.lease_s + STALL_S:
            # Stopped, or asleep: whoever called in that time was not heard.
            self._awake = now
        self._last = now
        marked: list[str] = []
        if now >= self._since + self._terms.lease_s:
            marked = self._mark_overdue(now)
        if now >= self._awake + self._terms.lease_s:
            self._give_up(now)
        self._end_waits(now)
        self._flush(now)
        return marked

    def _mark_overdue(self, now: float) -> list[str]:
        def decide(run: RunSummary) -> Change | None:
            if run.unreachable or not is_overdue(run, now):
                return None
            lost = replace(run, unreachable=True)
            data = {"agent": run.agent, "deadline": run.deadline}
            return Change(
                run={"unreachable": True, "updated_at": now},
                events=[facts.event(lost, live.UNREACHABLE, now, **data)],
            )

        marked = self._decide(self._store.overdue(now), decide)
        return [run.id for run in marked if run.unreachable]

    def _give_up(self, now: float) -> None:
        grace_s = self._terms.grace_s

        def decide(run: RunSummary) -> Change | None:
            if not is_lost(run, now, grace_s) or run.deadline is None:
                return None
            silence = duration(now - run.deadline + self._terms.lease_s)
            return given_up(run, now, why=f"{run.agent} was not heard of for {silence}")

        for run in self._decide([run.id for run in self._store.lost(now, grace_s)], decide):
            self._book.forget(run.id)

    def _end_waits(self, now: float) -> None:
        def decide(run: RunSummary) -> Change | None:
            if not waited_too_long(run, now) or run.queue_limit_s is None:
                return None
            said = f"it waited longer than {duration(run.queue_limit_s)} in the queue"
            why = {"error_code": QUEUE_TIMEOUT, "error_message": said}
            return over(run, RunEvent.TIMED_OUT, now, why=why)

        self._decide(self._store.waiting_too_long(now), decide)

    def _flush(self, now: float) -> None:
        """Write progress that waits."""

        def decide(run: RunSummary) -> Change | None:
            fields = self._book.take(run, now)
            return Change(run={**fields, "updated_at": now}) if fields else None

        self._decide(self._book.due(now), decide)

    def _decide(self, runs: list[str], decide: Decide) -> list[RunSummary]:
        answers = self._store.change([(run, decide) for run in runs]) if runs else []
        return [run for run in answers if isinstance(run, RunSummary)]
