"""
Simulations and their runs, as the published API client sees them.

A simulation is a model: its tree is what the model's case is run with (`service.cases`). The id of
a run is one, too: what that run was made of; main.py is told its run as its simulation.

Promises: ``run`` queues one run of what the simulation is now, and names the version of it; nothing
is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import NewRun, RunFilter, RunRecord
from physicsrunner.errors import InvalidRequest, NotAllowed, NotFound
from physicsrunner.server.doors import words
from physicsrunner.server.doors.physicsworks import api_documents as documents
from physicsrunner.server.doors.physicsworks import trees
from physicsrunner.server.doors.physicsworks.api_lists import Wanted, page_of, run_filter
from physicsrunner.server.doors.physicsworks.files import DoorFiles, Place
from physicsrunner.server.doors.physicsworks.runs import DOOR, request_like
from physicsrunner.service.access import Identity
from physicsrunner.service.cases import SavedCase
from physicsrunner.service.services import Services
from physicsrunner.wire.codec import check_depth

Document = dict[str, Any]
#: What a simulation is that nobody has run.
READY = "ready"


class Simulations:
    """What the client asks about simulations and runs."""

    def __init__(self, services: Services, files: DoorFiles) -> None:
        self._services = services
        self._files = files

    # -- projects --------------------------------------------------------------------------------

    def projects(self, identity: Identity, asked: Wanted) -> Document:
        """Return the projects that the caller may see, and the place of what has none."""
        found = [
            documents.project_document(one) for one in self._services.accounts.projects(identity)
        ]
        if all(one["id"] != documents.NO_PROJECT for one in found):
            found.append(_no_project())
        return page_of(found, asked, lambda one: one)

    def project(self, identity: Identity, project: str) -> Document:
        """Return one project."""
        try:
            return documents.project_document(self._services.accounts.project(identity, project))
        except NotFound:
            if project != documents.NO_PROJECT:
                raise
            return _no_project()

    # -- simulations -----------------------------------------------------------------------------

    def list(self, identity: Identity, project: str, asked: Wanted) -> Document:
        """Return the simulations of a project."""
        cases = self._services.cases.list(identity, self._project(identity, project))
        found = [documents.simulation_document(case) for case in cases]
        return page_of(found, asked, lambda one: self._with_status(identity, one))

    def get(self, identity: Identity, project: str, simulation: str) -> Document:
        """Return one simulation of a project."""
        found = self._document(identity, simulation)
        if found["project"] != project:
            raise NotFound(f"there is no simulation {simulation} in project {project}")
        return self._with_status(identity, found)

    def patch(self, identity: Identity, simulation: str, body: Mapping[str, Any]) -> Document:
        """Change the tree; return the simulation as it is then."""
        check_depth(body, "the body")
        case = self._services.cases.save(
            identity, self.model(identity, simulation), lambda case: trees.patched(case, body)
        )
        return self._with_status(identity, documents.simulation_document(case))

    def check(self, identity: Identity, simulation: str) -> Document:
        """Say whether it can be run as it is."""
        found = self.find(identity, simulation)
        wrong = found.problems() if isinstance(found, SavedCase) else []
        return {
            "message": "failed" if wrong else "passed",
            "statusCode": InvalidRequest.status_hint if wrong else 200,
            "errors": wrong,
        }

    def run(self, identity: Identity, simulation: str, body: Mapping[str, Any]) -> Document:
        """Queue a run; return its job."""
        wanted = self._new_run(self.find(identity, simulation))
        agents = body.get("runners") or []
        if not isinstance(agents, list) or not all(isinstance(one, str) for one in agents):
            raise InvalidRequest("runners is a list of texts: the ids of runners")
        if agents:
            label = self._services.fleet.confining(identity, agents)
            labels = [*wanted.configuration.get("labels", ()), label]
            wanted = replace(wanted, configuration={**wanted.configuration, "labels": labels})
        return documents.job_document(self._services.runs.create(identity, wanted))

    def model(self, identity: Identity, simulation: str) -> str:
        """Return the id of the model that a simulation is; raise `NotFound` if it is none."""
        found = self.find(identity, simulation)
        model = found.row.id if isinstance(found, SavedCase) else found.model_id
        if model is None:
            raise NotFound(f"simulation {simulation} has no model: its program is its creator's")
        return model

    # -- runs ------------------------------------------------------------------------------------

    def runs(self, identity: Identity, simulation: str, asked: Wanted) -> Document:
        """Return the runs of a simulation."""
        found = self.find(identity, simulation)
        if isinstance(found, RunRecord) and found.model_id is None:
            return page_of([documents.run_document(found)], asked, lambda one: one)
        bound = RunFilter(
            model_id=self.model(identity, simulation), door=None if asked.everything else DOOR
        )
        wanted = run_filter(asked, bound, lambda said: words.states_of(DOOR, said))
        if wanted is None:
            return {"data": [], "totalCount": 0}
        page = self._services.runs.list(identity, wanted)
        return {
            "data": [documents.run_document(run) for run in page.runs],
            "totalCount": page.total,
        }

    def run_of(self, identity: Identity, simulation: str, run: str) -> RunRecord:
        """Return a run of a simulation; raise `NotFound` if it is another one's."""
        record = self._services.runs.get(identity, run)
        if simulation in (record.id, str(record.number)):
            return record
        try:
            if self.model(identity, simulation) == record.model_id:
                return record
        except NotAllowed:  # a machine sees the version that it runs, and this may be another one
            if simulation == record.model_id:
                return record
            raise
        raise NotFound(f"there is no run {run} of simulation {simulation}")

    def run_document(self, identity: Identity, simulation: str, run: str) -> Document:
        """Return a run with its results and its files."""
        record = self.run_of(identity, simulation, run)
        found = documents.run_document(record)
        place = self.place(identity, record)
        if place is None or identity.scope("files:read") is Scope.NONE:
            return {**found, **documents.with_files({}, (), ()), "results": record.results}
        kept, named = self._files.kept(place)
        files = self._services.files.list(identity, record.id, place.attempt)
        return {
            **kept,
            **found,
            **documents.with_files(kept, files, named),
            "results": record.results or kept.get("results", []),
        }

    def place(self, identity: Identity, run: RunRecord) -> Place | None:
        """Return the attempt whose files are the run's; None: there is none yet."""
        attempt = run.published_attempt or run.attempt
        return Place(identity, run.id, attempt) if attempt else None

    # -- inside ----------------------------------------------------------------------------------

    def _project(self, identity: Identity, project: str) -> str | None:
        """Return the project of that id, which a person must be able to see; None: no project."""
        if identity.kind == "user" and "owner" in self.project(identity, project):
            return project
        return None if project == documents.NO_PROJECT else project

    def find(self, identity: Identity, simulation: str) -> SavedCase | RunRecord:
        """Return what a simulation is: a model, or what a run was made of."""
        try:
            return self._services.cases.get(identity, simulation)
        except (NotFound, NotAllowed):
            try:
                return self._services.runs.get(identity, simulation)
            except NotFound:
                raise NotFound(f"there is no simulation {simulation}") from None

    def _document(self, identity: Identity, simulation: str) -> Document:
        found = self.find(identity, simulation)
        if isinstance(found, SavedCase):
            return documents.simulation_document(found)
        return documents.simulation_of_run(found)

    def _with_status(self, identity: Identity, found: Document) -> Document:
        """Return the document with the status of the latest run that the caller may see."""
        if "status" in found:
            return found
        latest = []
        if identity.scope("runs:read") is not Scope.NONE:
            latest = self._services.runs.list(
                identity, RunFilter(model_id=found["id"], limit=1)
            ).runs
        status = words.word(DOOR, latest[0]) if latest else READY
        return {**found, "status": status, "run": latest[0].id if latest else None}

    def _new_run(self, found: SavedCase | RunRecord) -> NewRun:
        if isinstance(found, RunRecord):
            if found.model_id is None:
                raise NotFound(f"run {found.number} has no model: its program is its creator's")
            return request_like(found)
        wrong = found.problems()
        if wrong:
            raise InvalidRequest(f"simulation {found.row.name} cannot be run: {'; '.join(wrong)}")
        return NewRun(
            model_id=found.row.id,
            model_version=found.row.version,
            name=found.row.name,
            parameters=dict(found.parameters),
            project_id=found.row.project_id,
            door=DOOR,
        )


def _no_project() -> Document:
    name = documents.NO_PROJECT
    return {"id": name, "_id": name, "name": "of no project", "createdAt": None}
