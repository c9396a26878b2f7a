"""
What people ask of runs that are there: stop, pause, go on, run again, pin, delete.

Promises: what a run's holder must do is a request until it reports that it did, so that the answer
is honest; where nobody carries the run out it is done at once. Asking twice is asking once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from physicsrunner.core.run import LONGEST_NAME, NewRun, RunRecord, RunSummary
from physicsrunner.core.state import HELD, LEASABLE, TERMINAL, RunEvent, RunState
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotTerminal,
    PhysicsRunnerError,
    Pinned,
)
from physicsrunner.service import asked, facts
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.endings import over
from physicsrunner.service.making import Maker
from physicsrunner.service.removal import Removal
from physicsrunner.store.base import Change, Decide, Store
from physicsrunner.wire import live


class Steering:
    """Changes of runs that people ask for. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        maker: Maker,
        removal: Removal,
        *,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._access = access
        self._maker = maker
        self._removal = removal
        self._now = now

    def cancel(
        self,
        identity: Identity,
        run: str | int,
        *,
        force: bool = False,
        unless_begun: bool = False,
    ) -> RunSummary:
        """
        Ask for a run to be stopped; return it as it is then.

        A run that nobody carries out is cancelled at once, one that has ended stays as it is. With
        *force* a run whose agent is unreachable is cancelled at once, too: when the agent comes
        back it has lost the lease and stops the program. With *unless_begun* a run that an agent
        has been given stays as it is.
        """
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status in TERMINAL or (unless_begun and present.attempt):
                return None
            outcome = {"requested_by": identity.subject}
            if present.status in HELD and not (force and present.unreachable):
                if present.cancel_requested:
                    return None
                asked = replace(present, cancel_requested=True)
                event = facts.event(
                    asked, live.CANCEL_REQUESTED, now, agent=present.agent, **outcome
                )
                return Change({"cancel_requested": True, "updated_at": now}, events=[event])
            # What an earlier attempt ended by is not why it ended.
            why = {"error_code": None, "error_message": None, "exit_code": None}
            change = over(present, RunEvent.CANCELLED, now, why=why, outcome=outcome)
            return replace(change, run={**change.run, "cancel_requested": True, "held": False})

        return self._changed(identity, "runs:cancel", run, decide)

    def pause(self, identity: Identity, run: str | int) -> RunSummary:
        """Hold a run that waits; ask for one that is carried out to be stopped for a while."""
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status in LEASABLE:
                if present.held:
                    return None
                return _field(present, "held", True, live.HELD, now, identity)
            if present.status in TERMINAL:
                raise Conflict(f"run {present.number} has ended: it cannot be paused")
            if present.cancel_requested:
                raise Conflict(f"run {present.number} is being stopped: it cannot be paused")
            if present.pause_requested:
                return None
            return _field(present, "pause_requested", True, live.PAUSE_REQUESTED, now, identity)

        return self._changed(identity, "runs:pause", run, decide)

    def resume(self, identity: Identity, run: str | int) -> RunSummary:
        """Let a run that was paused go on, or be handed out again."""
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status in LEASABLE:
                if not present.held:
                    return None
                return _field(present, "held", False, live.RELEASED, now, identity)
            if present.status in TERMINAL:
                raise Conflict(f"run {present.number} has ended: it cannot go on")
            if not present.pause_requested:
                return None
            return _field(present, "pause_requested", False, live.RESUME_REQUESTED, now, identity)

        return self._changed(identity, "runs:resume", run, decide)

    def pin(self, identity: Identity, run: str | int, on: bool = True) -> RunSummary:
        """Keep a run from being deleted by anybody, or let it be deleted again."""
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.pinned is on:
                return None
            kind = live.PINNED if on else live.UNPINNED
            return _field(present, "pinned", on, kind, now, identity)

        return self._changed(identity, "runs:pin", run, decide)

    def retry(self, identity: Identity, run: str | int, new_id: str | None = None) -> RunRecord:
        """
        Queue a new run that is asked for as a run was that has ended; return the new one.

        *new_id* is the caller's for the new run: a repeat returns what the first one made.
        """
        present = self.found(run)
        self._access.require(identity, "runs:retry", present, asked=run)
        if present.status not in TERMINAL:
            raise Conflict(f"run {present.number} is {present.status}: it has not ended")
        if present.model_id is None:
            raise InvalidRequest(
                f"run {present.number} was carried out by its creator: nobody else has its program"
            )
        old = self._store.record(present.id)
        if old is None:
            raise NotFound(f"there is no run {run}")
        batch = self._maker.batch(identity)
        fresh = batch.again(old, None if new_id is None else asked.run_id(new_id))
        now = fresh.created_at
        events = [facts.requested(fresh, now), facts.queued(fresh, now)]
        added, _ = self._store.add_run(fresh, events, by=identity.actor, secrets=batch.secrets)
        self._access.require_creator(identity, added)
        if added.retry_of != present.id:
            raise Conflict(f"there is a run {added.id} already, and it repeats another one")
        return added

    def rename(
        self, identity: Identity, run: str | int, name: str, description: str | None
    ) -> RunSummary:
        """Give a run another name and description, whether it has ended or not."""
        now = self._now()
        asked.check_own(NewRun(name=name, description=description))
        fields = {"name": name[:LONGEST_NAME], "description": description}

        def decide(present: RunSummary) -> Change | None:
            if all(getattr(present, key) == value for key, value in fields.items()):
                return None
            event = facts.event(
                present, live.RENAMED, now, name=name, requested_by=identity.subject
            )
            return Change({**fields, "updated_at": now}, events=[event])

        return self._changed(identity, "runs:update", run, decide)

    def abandon(self, identity: Identity, run: str | int) -> RunSummary:
        """
        End a run that was asked to stop without waiting for its holder, so that it can be deleted.

        Its holder has lost the lease, and stops the program as soon as it hears of that. All
        others stay as they are.
        """
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status not in HELD or not present.cancel_requested or present.pinned:
                return None
            outcome = {"requested_by": identity.subject}
            return over(present, RunEvent.CANCELLED, now, why={}, outcome=outcome)

        return self._changed(identity, "runs:delete", run, decide)

    def delete(self, identity: Identity, run: str | int) -> RunSummary:
        """
        Delete a run that has ended, with its files; return it as it was.

        Raises
        ------
        NotTerminal
            If it has not ended.
        Pinned
            If it is pinned.
        """
        present = self.found(run)
        self._access.require(identity, "runs:delete", present, asked=run)
        _check_deletable(present)
        if not self._removal.remove([present.id], by=identity.actor):
            _check_deletable(self.found(present.id))  # it has changed since
        return present

    def delete_many(self, identity: Identity, runs: Sequence[str]) -> list[str]:
        """
        Delete those of *runs* that the caller may delete; return their ids.

        What has not ended, is pinned or is another's stays, without a word.
        """
        self._access.require(identity, "runs:delete")
        present = self._store.summaries(runs).values()
        own = [run.id for run in present if self._access.may(identity, "runs:delete", run)]
        return self._removal.remove(own, by=identity.actor) if own else []

    def found(self, run: str | int) -> RunSummary:
        """Return the run of that id or number; raise `NotFound`."""
        present = self._store.summary(key_of(run))
        if present is None:
            raise NotFound(f"there is no run {run}")
        return present

    def _changed(
        self, identity: Identity, permission: str, run: str | int, decide: Decide
    ) -> RunSummary:
        present = self.found(run)
        self._access.require(identity, permission, present, asked=run)
        answer = self._store.change([(present.id, decide)], by=identity.actor)[0]
        if isinstance(answer, PhysicsRunnerError):
            raise answer
        return answer


def key_of(run: str | int) -> str | int:
    """Return a run's id, or its number where that is meant."""
    if isinstance(run, str) and run.isdecimal() and len(run) < 18:
        return int(run)
    return run


def _field(
    run: RunSummary, name: str, value: bool, kind: str, now: float, identity: Identity
) -> Change:
    fields: dict[str, Any] = {name: value}
    asked = replace(run, **fields)
    event = facts.event(asked, kind, now, agent=run.agent, requested_by=identity.subject)
    return Change({**fields, "updated_at": now}, events=[event])


def _check_deletable(run: RunSummary) -> None:
    if run.status not in TERMINAL:
        raise NotTerminal(f"run {run.number} is {RunState(run.status)}: it has not ended")
    if run.pinned:
        raise Pinned(f"run {run.number} is pinned")
