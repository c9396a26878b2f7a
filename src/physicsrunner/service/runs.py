"""
Runs: created, claimed, shown, cancelled; and the inputs that they are given.

Promises: a run's id is its idempotency key: asked for twice, it is one run. Cancelling is a request
until the runner reports it, except where nobody carries the run out. Lists never read parameters,
configurations or results.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.paths import check_path
from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import (
    InputFile,
    NewRun,
    RunFilter,
    RunRecord,
    RunSummary,
    check_filter,
    priority_of,
)
from physicsrunner.core.state import HELD, TERMINAL, RunEvent, next_state
from physicsrunner.errors import (
    DigestMismatch,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PhysicsRunnerError,
)
from physicsrunner.service import asked, facts
from physicsrunner.service.access import AccessService, Identity, is_creator
from physicsrunner.service.grants import Grants, lease_change
from physicsrunner.service.leases import LeaseService
from physicsrunner.service.models import ModelService
from physicsrunner.service.progress import ProgressBook
from physicsrunner.store.base import Change, Store
from physicsrunner.store.blobs import BlobStore
from physicsrunner.store.digest import file_digest
from physicsrunner.store.spool import Spool
from physicsrunner.wire import live
from physicsrunner.wire.codec import decode
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import LeaseGrant, Result

Summaries = list[RunSummary]  # inside the class, `list` is the method
Results = list[Result]
Events = list[Event]

_LOG = logging.getLogger(__name__)
_INPUT_FIELDS: Final = ("parameters", "configuration")


class RunService:
    """What people ask for. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        models: ModelService,
        leases: LeaseService,
        grants: Grants,
        book: ProgressBook,
        *,
        spool: Spool,
        inputs: BlobStore,
        now: Callable[[], float],
        terms: LeaseTerms,
    ) -> None:
        self._store = store
        self._access = access
        self._models = models
        self._leases = leases
        self._grants = grants
        self._book = book
        self._spool = spool
        self._inputs = inputs
        self._now = now
        self._terms = terms

    def create(self, identity: Identity, request: NewRun) -> RunRecord:
        """
        Put a run into the queue; the same id again returns the run as it is.

        Raises
        ------
        NotFound
            If the model or an input is not on the server.
        InvalidRequest
            If the request cannot be carried out as it is.
        """
        self._access.require(identity, "runs:create")
        present = self._present(identity, request)
        if present is not None:
            return present
        if request.model_id is None:
            raise InvalidRequest("model_id is missing: upload a model first (POST /api/v1/models)")
        run = self._made(identity, request)
        now = run.created_at
        added, new = self._store.add_run(run, [facts.requested(run, now), facts.queued(run, now)])
        if new:
            self._write_inputs(added)
        return added

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
        present = self._present(identity, request)
        if present is None:
            run = self._made(identity, request)
            now = run.created_at
            change = lease_change(run, agent, now, self._terms, claimed=True)
            leased = replace(run, **change.run)
            events = [facts.requested(run, now), *change.events]
            present, new = self._store.add_run(leased, events, change.attempt)
            if new:
                self._write_inputs(present)
                return present, self._grants.grant(present, now)
        if not is_creator(identity, present):
            raise NotAllowed(f"run {present.id} was created by somebody else")
        again = self._leases.claim_again(identity, present, agent)
        return again, self._grants.grant(again, self._now())

    def get(self, identity: Identity, run: str | int) -> RunRecord:
        """Return a run by its id or number; raise `NotFound`."""
        record = self._store.record(_key(run))
        if record is None:
            raise NotFound(f"there is no run {run}")
        self._access.require(identity, "runs:read", record.id)
        return self._book.overlay(record)

    def list(self, identity: Identity, wanted: RunFilter) -> tuple[Summaries, int]:
        """Return one page of runs, and how many *wanted* describes in all."""
        self._access.require(identity, "runs:read")
        check_filter(wanted)
        if self._access.scope(identity, "runs:read") is Scope.OWN:
            if identity.kind == "attempt":
                run = self._store.summary(identity.run or "")
                return ([run], 1) if run is not None else ([], 0)
            wanted = replace(wanted, agent=identity.subject)
        page = self._store.runs(wanted)
        return [self._book.overlay(run) for run in page.runs], page.total

    def cancel(self, identity: Identity, run: str | int) -> RunRecord:
        """
        Ask for a run to be stopped; return it as it is then.

        A run that nobody carries out is cancelled at once, one that has ended stays as it is.
        """
        record = self.get(identity, run)
        self._access.require(identity, "runs:cancel", record.id)
        now = self._now()

        def decide(present: RunSummary) -> Change | None:
            if present.status in TERMINAL or present.cancel_requested:
                return None
            if present.status in HELD:
                asked = replace(present, cancel_requested=True)
                data = {"agent": present.agent, "requested_by": identity.subject}
                event = facts.event(asked, live.CANCEL_REQUESTED, now, **data)
                return Change({"cancel_requested": True, "updated_at": now}, events=[event])
            fields: dict[str, Any] = {
                "status": next_state(present.status, RunEvent.CANCELLED),
                "cancel_requested": True,
                "completed_at": now,
                "updated_at": now,
            }
            ended = replace(present, **fields)
            outcome = {"requested_by": identity.subject}
            return Change(fields, events=[facts.moved(ended, present.status, now, outcome)])

        answer = self._store.change([(record.id, decide)])[0]
        if isinstance(answer, PhysicsRunnerError):
            raise answer
        return self.get(identity, record.id)

    def results(self, identity: Identity, run: str | int) -> Results:
        """Return the named values that the run has reported."""
        return [decode(Result, item) for item in self.get(identity, run).results]

    def events(
        self, identity: Identity, run: str | None = None, after: int = 0, limit: int = 1000
    ) -> Events:
        """Return logged events (of one run) with an id over *after*, ascending."""
        if run is None and self._access.scope(identity, "events:read") is not Scope.ANY:
            raise NotAllowed("this token shows the events of its own run only")
        self._access.require(identity, "events:read", run)
        return self._store.events(run, after=after, limit=max(1, min(limit, 10_000)))

    def store_input(self, identity: Identity, sha256: str, path: Path) -> int:
        """
        Keep an input by its content; return its size in bytes. *path* stays the caller's to remove.

        Raises
        ------
        DigestMismatch
            If the content is not that of *sha256*.
        """
        self._access.require(identity, "inputs:create")
        key = asked.sha256_of(sha256)
        found, size = file_digest(path)
        if found != key:
            raise DigestMismatch(f"the content has SHA-256 {found}, not {key}")
        self._inputs.put(key, path)
        self._store.add_upload(key, size, by=identity.subject, now=self._now())
        return size

    def input_path(self, identity: Identity, sha256: str) -> Path:
        """Return an input's file, to read. An attempt's token gets those of its run alone."""
        self._access.require(identity, "inputs:read")
        key = asked.sha256_of(sha256)
        if self._access.scope(identity, "inputs:read") is Scope.OWN:
            record = self._store.record(identity.run or "")
            if record is None or all(item["sha256"] != key for item in record.inputs):
                raise NotAllowed("the token's run does not use this input")
        return self._inputs.path(key)

    def _present(self, identity: Identity, request: NewRun) -> RunRecord | None:
        if request.id is None:
            return None
        record = self._store.record(asked.run_id(request.id))
        if record is not None and not is_creator(identity, record):
            raise NotAllowed(f"run {record.id} was created by somebody else")
        return record

    def _made(self, identity: Identity, request: NewRun) -> RunRecord:
        if identity.kind != "user":
            raise NotAllowed("runs are created with a person's token")
        asked.check_texts(request)
        needs, room = asked.resources(request)
        now = self._now()
        version, title = request.model_version, None
        if request.model_id is not None:
            model = self._models.row(request.model_id, version)
            version, title = model.version, model.name
        configuration = request.configuration
        asked.environment(configuration)  # read when the run is leased
        return RunRecord(
            id=str(uuid.uuid4()) if request.id is None else asked.run_id(request.id),
            number=0,
            name=(request.name or title or "run")[:255],
            created_by=identity.subject,
            created_at=now,
            updated_at=now,
            project_id=request.project_id,
            model_id=request.model_id,
            model_version=version,
            simulation_type=request.simulation_type[:32],
            description=request.description,
            tags=[tag[:100] for tag in request.tags],
            priority=priority_of(configuration.get("priority")),
            cpu_cores=room.cpu_cores,
            memory_gb=room.memory_gb,
            gpu_count=room.gpu_count,
            storage_gb=room.storage_gb,
            labels=asked.labels(configuration),
            time_limit_s=asked.time_limit_s(configuration),
            on_lost_contact=asked.policy(configuration),
            parameters=request.parameters,
            configuration=configuration,
            resource_requirements=needs,
            inputs=[self._checked(item) for item in request.inputs],
        )

    def _checked(self, item: InputFile) -> dict[str, Any]:
        size = self._store.upload(asked.sha256_of(item.sha256))
        if size is None:
            raise NotFound(
                f"input {item.path!r} is not on the server: PUT /api/v1/uploads/{item.sha256} first"
            )
        checked = replace(item, path=check_path(item.path), size=size, sha256=item.sha256.lower())
        return asdict(checked)

    def _write_inputs(self, run: RunRecord) -> None:
        """
        Write what was asked beside what will come of it, for people and other tools.

        A copy of the record, which is stored by now: a run is not refused for want of it.
        """
        folder = self._spool.run_folder(run.id) / "inputs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in _INPUT_FIELDS:
                text = json.dumps(getattr(run, name), indent=2, ensure_ascii=False)
                (folder / f"{name}.json").write_text(
                    # Lone surrogates of a JSON text stay what they were: escapes.
                    text + "\n",
                    encoding="utf-8",
                    errors="backslashreplace",
                )
        except OSError as error:
            _LOG.warning("run %s: its inputs were not written beside it: %s", run.id, error)


def _key(run: str | int) -> str | int:
    if isinstance(run, str) and run.isdecimal() and len(run) < 18:
        return int(run)
    return run
