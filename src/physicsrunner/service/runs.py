"""
Runs: created one by one or many at once, claimed, shown; what people ask of them; their inputs.

Promises: a run's id is its idempotency key: asked for twice, it is one run. Of a batch all runs are
kept or none. Lists never read parameters, configurations or results. The caller is shown and may
change what `core.permissions` grants, and no more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from physicsrunner.core.lease import RETRY, WAIT, LeaseTerms
from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import (
    NewRun,
    NewStudy,
    RunFilter,
    RunRecord,
    RunSummary,
    check_filter,
)
from physicsrunner.core.state import HELD, TERMINAL, RunState
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PhysicsRunnerError,
    TooLarge,
)
from physicsrunner.service import asked, facts
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.grants import Grants, lease_change
from physicsrunner.service.inputs import Inputs
from physicsrunner.service.leases import LeaseService
from physicsrunner.service.making import Batch, Maker
from physicsrunner.service.names import agent_name
from physicsrunner.service.progress import ProgressBook
from physicsrunner.service.reasons import Reasons
from physicsrunner.service.steering import Steering, key_of
from physicsrunner.store.base import AttemptRecord, RunPage, Store
from physicsrunner.wire.codec import decode
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import LeaseGrant, Result

MAX_BATCH: Final = 10_000  # runs in one call
PAGE: Final = 200  # runs that are looked at together
_MISSING_MODEL: Final = "model_id is missing: upload a model first (POST /api/v1/models)"


Summaries = list[RunSummary]  # inside the class, `list` is the method
Attempts = list[AttemptRecord]
Results = list[Result]
Events = list[Event]
Ids = list[str]


class RunService:
    """What people ask for. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        maker: Maker,
        steering: Steering,
        leases: LeaseService,
        grants: Grants,
        book: ProgressBook,
        inputs: Inputs,
        reasons: Reasons,
        *,
        now: Callable[[], float],
        terms: LeaseTerms,
    ) -> None:
        self._store = store
        self._access = access
        self._maker = maker
        self._steering = steering
        self._leases = leases
        self._grants = grants
        self._book = book
        self._inputs = inputs
        self._reasons = reasons
        self._now = now
        self._terms = terms
        self.store_input = inputs.keep
        self.input_path = inputs.path

    # -- asked for -----------------------------------------------------------------------------

    def create(self, identity: Identity, request: NewRun) -> RunRecord:
        """
        Put a run into the queue; the same id again returns the run as it is.

        Raises
        ------
        NotFound
            If the model, the study or an input is not on the server.
        InvalidRequest
            If the request cannot be carried out as it is.
        """
        self._access.require(identity, "runs:create")
        present = self._present(identity, request)
        if present is not None:
            return present
        if request.model_id is None:
            raise InvalidRequest(_MISSING_MODEL)
        with self._inputs.gate.shared():
            batch = self._maker.batch(identity)
            run = batch.record(request)
            now = run.created_at
            events = [facts.requested(run, now), facts.queued(run, now)]
            added, new = self._store.add_run(run, events, by=identity.actor, secrets=batch.secrets)
        if new:
            self._inputs.write_beside(added)
        else:
            self._access.require_creator(identity, added)  # it came between the look and this
        return added

    def create_many(
        self, identity: Identity, wanted: Sequence[NewRun], study: NewStudy | None = None
    ) -> Summaries:
        """
        Put many runs into the queue: all of them in one transaction, or none.

        Parameters
        ----------
        study
            The study that they belong to; it is made where it is not there.

        Raises
        ------
        InvalidRequest
            If one of them cannot be carried out; it is named by its place, from 0.
        """
        self._access.require(identity, "runs:create")
        if not wanted:
            raise InvalidRequest("there is no run in this batch")
        if len(wanted) > MAX_BATCH:
            raise TooLarge(f"{len(wanted)} runs in one call: at most {MAX_BATCH}")
        ids = [_id(place, one) for place, one in enumerate(wanted)]
        present = self._present_of(identity, ids)
        fresh = [(place, one) for place, one in enumerate(wanted) if ids[place] not in present]
        if study is not None and fresh:
            study, fresh = _joining(study, fresh)
        with self._inputs.gate.shared():
            batch = self._maker.batch(identity)
            known = None if study is None else study.id
            records = [_made(batch, place, one, known) for place, one in fresh]
            if study is not None and fresh:
                self._maker.studies.kept(identity, study)
            items = [
                (run, (facts.requested(run, run.created_at), facts.queued(run, run.created_at)))
                for run in records
            ]
            added = self._store.add_runs(items, by=identity.actor, secrets=batch.secrets)
        for run, new in added:
            if not new:
                self._access.require_creator(identity, run)
        places = iter(added)
        return [present.get(key) or next(places)[0] for key in ids]

    def claim(
        self, identity: Identity, request: NewRun, agent: str
    ) -> tuple[RunRecord, LeaseGrant]:
        """
        Create a run that the caller carries out itself: attempt 1 is leased to *agent* at once.

        The same id again, by the same person, gives the lease again with a fresh token.
        """
        self._access.require(identity, "runs:claim")
        if not agent:
            raise InvalidRequest("claim.agent is missing: name the machine that carries it out")
        agent = agent_name(agent)
        present = self._present(identity, request)
        if present is None:
            with self._inputs.gate.shared():
                batch = self._maker.batch(identity)
                run = batch.record(request)
                if run.on_lost_contact == RETRY:  # by whom? nobody else has its program
                    run = replace(run, on_lost_contact=WAIT)
                now = run.created_at
                change = lease_change(run, agent, now, self._terms, claimed=True)
                leased = replace(run, **change.run)
                events = [facts.requested(run, now), *change.events]
                present, new = self._store.add_run(
                    leased, events, change.attempt, by=identity.actor, secrets=batch.secrets
                )
            if new:
                self._inputs.write_beside(present)
                return present, self._grants.grant(present, now)
        self._access.require_creator(identity, present)
        again = self._leases.claim_again(identity, present, agent)
        return again, self._grants.grant(again, self._now())

    # -- shown ---------------------------------------------------------------------------------

    def get(self, identity: Identity, run: str | int) -> RunRecord:
        """Return a run by its id or number; raise `NotFound`."""
        record = self._store.record(key_of(run))
        if record is None:
            raise NotFound(f"there is no run {run}")
        self._access.require(identity, "runs:read", record, asked=run)
        return self._book.overlay(record)

    def summary(self, identity: Identity, run: str | int) -> RunSummary:
        """Return a run without its heavy parts; raise `NotFound`."""
        found = self._steering.found(run)
        self._access.require(identity, "runs:read", found, asked=run)
        return self._book.overlay(found)

    def reason(self, run: RunSummary) -> str:
        """Return in words why *run*, which the caller was shown, is where it is."""
        return self._reasons.of(run)

    def reasons(self, runs: Sequence[RunSummary]) -> list[str]:
        """Return the same of many, as short as it is for a list."""
        return self._reasons.in_list(runs)

    def attempts(self, identity: Identity, run: str | int) -> Attempts:
        """Return all attempts of a run, the first first."""
        found = self._steering.found(run)
        self._access.require(identity, "runs:read", found, asked=run)
        return self._store.attempts(found.id)

    def list(self, identity: Identity, wanted: RunFilter) -> RunPage:
        """Return one page of runs, and how many *wanted* describes in all."""
        self._access.require(identity, "runs:read")
        check_filter(wanted)
        if identity.kind == "attempt":
            run = self._store.summary(identity.run or "")
            return RunPage([], 0) if run is None else RunPage([run], 1)
        page = self._store.runs(self._access.narrowed(identity, wanted))
        return replace(page, runs=[self._book.overlay(run) for run in page.runs])

    def results(self, identity: Identity, run: str | int) -> Results:
        """Return the named values that the run has reported."""
        return [decode(Result, item) for item in self.get(identity, run).results]

    def events(
        self, identity: Identity, run: str | None = None, after: int = 0, limit: int = 1000
    ) -> Events:
        """Return logged events (of one run) with an id over *after*, ascending."""
        if run is None and self._access.scope(identity, "events:read") is not Scope.ANY:
            raise NotAllowed("this token shows the events of its own runs only: name one")
        self._access.require(identity, "events:read", run)
        return self._store.events(run, after=after, limit=max(1, min(limit, 10_000)))

    # -- steered -------------------------------------------------------------------------------

    def cancel(
        self,
        identity: Identity,
        run: str | int,
        force: bool = False,
        *,
        unless_begun: bool = False,
    ) -> RunRecord:
        """Ask for a run to be stopped; see `Steering.cancel`."""
        cancel = self._steering.cancel
        return self._now_as(cancel(identity, run, force=force, unless_begun=unless_begun))

    def pause(self, identity: Identity, run: str | int) -> RunRecord:
        """Hold a run that waits, or ask for its program to be stopped for a while."""
        return self._now_as(self._steering.pause(identity, run))

    def resume(self, identity: Identity, run: str | int) -> RunRecord:
        """Let a paused or held run go on."""
        return self._now_as(self._steering.resume(identity, run))

    def pin(self, identity: Identity, run: str | int, on: bool = True) -> RunRecord:
        """Keep a run from being deleted, or let it be deleted again."""
        return self._now_as(self._steering.pin(identity, run, on))

    def retry(self, identity: Identity, run: str | int, new_id: str | None = None) -> RunRecord:
        """Queue a new run, *new_id*, that is asked for as a run was that has ended."""
        with self._inputs.gate.shared():
            added = self._steering.retry(identity, run, new_id)
        self._inputs.write_beside(added)
        return added

    def rename(
        self, identity: Identity, run: str | int, name: str, description: str | None
    ) -> RunRecord:
        """Give a run another name and description."""
        return self._now_as(self._steering.rename(identity, run, name, description))

    def delete(self, identity: Identity, run: str | int, *, abandon: bool = False) -> RunSummary:
        """
        Delete a run that has ended, with its files; return it as it was.

        With *abandon* one that was asked to stop is not waited for: see `Steering.abandon`.
        """
        if abandon:
            self._steering.abandon(identity, run)
        return self._steering.delete(identity, run)

    def delete_many(self, identity: Identity, runs: Sequence[str]) -> Ids:
        """Delete those of many runs, by their ids, that can go; return the ids of those."""
        return self._steering.delete_many(identity, runs)

    def delete_ended(self, identity: Identity, door: str) -> tuple[int, int]:
        """
        Delete the runs that came by *door* and have ended; return how many, and how many stayed.

        Those stay that the caller may not delete, or that are pinned.

        Raises
        ------
        Conflict
            If one of them is carried out just now, or is to be tried again.
        """
        busy = RunFilter(status=sorted({*HELD, RunState.RETRYING}), door=door, limit=1)
        for run in self.list(identity, busy).runs:
            raise Conflict(f"run {run.number} is running: wait for its end, or cancel it")
        deleted = kept = 0
        ended = RunFilter(status=sorted(TERMINAL), door=door, limit=PAGE, sort="created_at")
        while page := self.list(identity, replace(ended, offset=kept)).runs:
            gone = len(self.delete_many(identity, [run.id for run in page]))
            deleted += gone
            kept += len(page) - gone
        return deleted, kept

    # -- inside --------------------------------------------------------------------------------

    def _now_as(self, run: RunSummary) -> RunRecord:
        record = self._store.record(run.id)
        if record is None:
            raise NotFound(f"there is no run {run.id}")
        return self._book.overlay(record)

    def _present(self, identity: Identity, request: NewRun) -> RunRecord | None:
        if request.id is None:
            return None
        record = self._store.record(asked.run_id(request.id))
        if record is not None:
            self._access.require_creator(identity, record)
        return record

    def _present_of(
        self, identity: Identity, ids: Sequence[str | None]
    ) -> dict[str | None, RunSummary]:
        named: dict[str, int] = {}
        for place, key in enumerate(ids):
            if key is not None and named.setdefault(key, place) != place:
                said = f"runs[{named[key]}] of this batch has the same id"
                raise _at(place, InvalidRequest(said))
        found = self._store.summaries(list(named)) if named else {}
        for run in found.values():
            self._access.require_creator(identity, run)
        return {key: found[key] for key in found}


def _id(place: int, request: NewRun) -> str | None:
    try:
        return None if request.id is None else asked.run_id(request.id)
    except InvalidRequest as error:
        raise _at(place, error) from None


def _made(batch: Batch, place: int, request: NewRun, study: str | None) -> RunRecord:
    try:
        if request.model_id is None:
            raise InvalidRequest(_MISSING_MODEL)
        return batch.record(request, known_study=study)
    except (InvalidRequest, NotFound, NotAllowed) as error:
        raise _at(place, error) from None


def _at(place: int, error: PhysicsRunnerError) -> PhysicsRunnerError:
    return type(error)(f"runs[{place}]: {error}")


def _joining(
    study: NewStudy, wanted: Sequence[tuple[int, NewRun]]
) -> tuple[NewStudy, list[tuple[int, NewRun]]]:
    """Return the study with its id and project, and the runs as members of it."""
    project = study.project_id or wanted[0][1].project_id
    key = str(uuid.uuid4()) if study.id is None else asked.run_id(study.id)
    for place, one in wanted:
        if one.project_id != project:
            raise InvalidRequest(f"runs[{place}] is not in the project of the study")
        if one.study_id not in (None, key):
            raise InvalidRequest(f"runs[{place}] names another study")
    joined = [(place, replace(one, study_id=key)) for place, one in wanted]
    return replace(study, id=key, project_id=project), joined
