"""
From a request for a run to its record.

Promises: what is wrong with a request is found here, before anything is kept; what many requests of
one batch have in common (model, inputs, configuration) is read and checked once. Nothing is stored.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from operator import attrgetter
from typing import Any, Final

from physicsrunner.core.paths import check_path
from physicsrunner.core.permissions import Scope
from physicsrunner.core.records import changed
from physicsrunner.core.run import LONGEST_NAME, InputFile, NewRun, RunRecord
from physicsrunner.errors import NotAllowed, NotFound
from physicsrunner.service import asked
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.asked import Asked
from physicsrunner.service.models import ModelService
from physicsrunner.service.secrets import Safe
from physicsrunner.service.studies import StudyService
from physicsrunner.store.base import ModelRow, Store


class Maker:
    """Makes records of requests. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        models: ModelService,
        studies: StudyService,
        safe: Safe,
        *,
        now: Callable[[], float],
    ) -> None:
        self.store = store
        self.access = access
        self.models = models
        self.studies = studies
        self.safe = safe
        self.now = now

    def batch(self, identity: Identity) -> Batch:
        """Return what makes the records of one call of *identity*."""
        return Batch(self, identity)


class Batch:
    """The records of one call; not thread-safe, and used up when the call ends."""

    def __init__(self, maker: Maker, identity: Identity) -> None:
        if identity.kind != "user":
            raise NotAllowed("runs are created with a person's token")
        self._maker = maker
        self._identity = identity
        self._now = maker.now()
        self._models: dict[tuple[str, str | None], ModelRow] = {}
        self._inputs: dict[str, int] = {}
        self._asked: dict[str, Asked] = {}
        self._projects: set[str | None] = set()
        self._studies: set[tuple[str, str | None, str | None]] = set()
        self._like: tuple[NewRun, RunRecord] | None = None  # the last one that was read in full
        self.secrets: dict[str, str] = {}  #: run -> its secrets, encrypted

    def record(self, request: NewRun, *, known_study: str | None = None) -> RunRecord:
        """
        Return the record of *request*, or raise.

        *known_study* is a study that is about to be made, so that it is not looked for.
        """
        run = str(uuid.uuid4()) if request.id is None else asked.run_id(request.id)
        before = self._like
        if before is not None and _is_like(request, before[0]):
            return self._another(run, request, before[1])
        asked.check_texts(request)
        self._check_project(request.project_id)
        if request.study_id is not None and request.study_id != known_study:
            self._check_study(request.study_id, request.project_id, request.door)
        version, title = request.model_version, None
        if request.model_id is not None:
            model = self._model(request.model_id, version)
            version, title = model.version, model.name
        wanted = self._read(request)
        made = RunRecord(
            id=run,
            number=0,
            name=(request.name or title or "run")[:LONGEST_NAME],
            created_by=self._identity.subject,
            created_at=self._now,
            updated_at=self._now,
            project_id=request.project_id,
            study_id=request.study_id,
            model_id=request.model_id,
            model_version=version,
            simulation_type=request.simulation_type[:32],
            description=request.description,
            tags=[tag[:100] for tag in request.tags],
            pinned=request.pinned,
            door=request.door,
            retry_of=request.retry_of,
            parameters=request.parameters,
            inputs=[self._checked(item) for item in request.inputs],
            **wanted.fields,
        )
        if wanted.secrets:
            self.secrets[run] = self._maker.safe.seal(json.dumps(wanted.secrets))
        else:
            self._like = request, made
        return made

    def _another(self, run: str, request: NewRun, like: RunRecord) -> RunRecord:
        """Return the record of a request that asks for what an earlier one did."""
        asked.check_own(request)
        return changed(
            like,
            id=run,
            name=(request.name or "")[:LONGEST_NAME],
            description=request.description,
            parameters=request.parameters,
        )

    def again(self, run: RunRecord, new_id: str | None = None) -> RunRecord:
        """Return the record of a new run, *new_id*, that is asked for as *run* was."""
        self._check_project(run.project_id)
        fresh = RunRecord(
            id=new_id or str(uuid.uuid4()),
            number=0,
            name=run.name,
            created_by=self._identity.subject,
            created_at=self._now,
            updated_at=self._now,
            retry_of=run.id,
        )
        kept = {name: getattr(run, name) for name in _ASKED}
        sealed = self._maker.store.secrets(run.id)
        if sealed is not None:
            self.secrets[fresh.id] = sealed
        return replace(fresh, **kept)

    def _check_project(self, project: str | None) -> None:
        if project not in self._projects:
            self._maker.access.require_new(self._identity, "runs:create", project)
            self._projects.add(project)

    def _check_study(self, study: str, project: str | None, door: str | None) -> None:
        if (study, project, door) not in self._studies:
            self._maker.studies.joined(self._identity, study, project, door)
            self._studies.add((study, project, door))

    def _model(self, model: str, version: str | None) -> ModelRow:
        found = self._models.get((model, version))
        if found is None:
            found = self._models[model, version] = self._maker.models.usable(
                self._identity, model, version
            )
        return found

    def _read(self, request: NewRun) -> Asked:
        if not request.configuration and not request.resource_requirements:
            key = ""
        else:
            try:
                key = json.dumps([request.configuration, request.resource_requirements])
            except (TypeError, ValueError, RecursionError):
                return asked.read(request)
        found = self._asked.get(key)
        if found is None:
            found = self._asked[key] = asked.read(request)
        return found

    def _checked(self, item: InputFile) -> dict[str, Any]:
        key = asked.sha256_of(item.sha256)
        size = self._inputs.get(key)
        if size is None:
            size = self._maker.store.upload(key)
            if size is None or not self._sent(key):
                raise NotFound(
                    f"input {item.path!r} is not on the server: PUT /api/v1/uploads/{item.sha256} "
                    "first"
                )
            self._inputs[key] = size
        return asdict(replace(item, path=check_path(item.path), size=size, sha256=key))

    def _sent(self, key: str) -> bool:
        """Say whether who asks may read that input: a run would show it to its main.py."""
        if self._identity.scope("inputs:read") is Scope.ANY:
            return True
        return self._maker.store.sent_input(key, self._identity.subject)


def _is_like(request: NewRun, other: NewRun) -> bool:
    """
    Say whether two requests differ in nothing but what each run of a batch has of its own.

    Lists and objects must be the same ones, or empty: comparing them would take 1 for true.
    """
    if not request.name or _plain(request) != _plain(other):
        return False
    pairs = zip(_many(request), _many(other), strict=True)
    return all(mine is others or not (mine or others) for mine, others in pairs)


#: The fields of a request, but for id, name, description and parameters: what is compared by its
#: value, and what is compared by being the same.
_plain: Final = attrgetter(
    "model_id",
    "model_version",
    "simulation_type",
    "project_id",
    "study_id",
    "retry_of",
    "pinned",
    "door",
)
_many: Final = attrgetter("configuration", "resource_requirements", "tags", "inputs")

#: What a retry asks for as the run did that it repeats.
_ASKED = (
    "project_id",
    "study_id",
    "model_id",
    "model_version",
    "simulation_type",
    "description",
    "tags",
    "priority",
    "cpu_cores",
    "memory_gb",
    "gpu_count",
    "storage_gb",
    "labels",
    "time_limit_s",
    "queue_limit_s",
    "silence_limit_s",
    "stop_when_silent",
    "on_lost_contact",
    "retry_policy",
    "door",
    "parameters",
    "configuration",
    "resource_requirements",
    "inputs",
)
