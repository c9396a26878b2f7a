"""
Jobs and runners, as the published API client sees them: our runs as jobs, our agents as runners.

Promises: a caller's list shows what they asked for at this door, the newest first; by its id every
run is a job that the caller may read. ``cancel`` ends what has not begun and nothing else,
``abort`` ends the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from physicsrunner.core.run import RunFilter, RunRecord
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import InvalidRequest, NotFound
from physicsrunner.server.doors.physicsworks import api_documents as documents
from physicsrunner.server.doors.physicsworks.api_lists import Wanted, page_of, run_filter
from physicsrunner.server.doors.physicsworks.api_simulations import Simulations
from physicsrunner.server.doors.physicsworks.runs import DOOR
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services

Document = dict[str, Any]
#: A runner that was heard of so shortly ago is not deleted: it is there.
SEEN_S: Final = 15.0
_ACTIVE: Final = [state for state in RunState if state not in TERMINAL]
_OF_SIMULATION: Final = "simulation"


class Jobs:
    """What the client asks about jobs."""

    def __init__(self, services: Services, simulations: Simulations) -> None:
        self._services = services
        self._simulations = simulations

    def list(self, identity: Identity, asked: Wanted) -> Document:
        """Return the caller's jobs."""
        bound = RunFilter() if asked.everything else _own(identity)
        wanted = run_filter(asked, bound, documents.job_states)
        if wanted is not None and wanted.project_id == documents.NO_PROJECT:
            wanted = self._of_no_project(identity, wanted)
        if wanted is None:
            return {"data": [], "totalCount": 0}
        page = self._services.runs.list(identity, wanted)
        return {
            "data": [documents.job_document(run) for run in page.runs],
            "totalCount": page.total,
        }

    def get(self, identity: Identity, job: str) -> Document:
        """Return one job, and why it is where it is."""
        return self._document(self._services.runs.get(identity, job))

    def cancel(self, identity: Identity, job: str) -> Document:
        """End a job that no runner has been given; any other stays as it is."""
        return self._document(self._services.runs.cancel(identity, job, unless_begun=True))

    def abort(self, identity: Identity, job: str) -> Document:
        """Ask for a job to be stopped, wherever it is."""
        return self._document(self._services.runs.cancel(identity, job))

    def abort_resource(self, identity: Identity, body: Mapping[str, Any]) -> Document:
        """Abort the job of ``{kind, resource}``: of a run, or the latest of a simulation."""
        kind, resource = body.get("kind"), body.get("resource")
        if not isinstance(kind, str) or not isinstance(resource, str) or not resource:
            raise InvalidRequest("the body is {kind, resource}: two texts")
        if kind.lower() == documents.RUN.lower():
            return self.abort(identity, resource)
        if kind.lower() != _OF_SIMULATION:
            raise InvalidRequest(f"kind {kind[:40]!r}: there are jobs of kind Run and simulation")
        model = self._simulations.model(identity, resource)
        own = _own(identity, status=_ACTIVE, model_id=model, limit=1)
        found = self._services.runs.list(identity, own).runs
        if not found:
            raise NotFound(f"simulation {resource} has no job of yours that goes on")
        return self.abort(identity, found[0].id)

    def _of_no_project(self, identity: Identity, wanted: RunFilter) -> RunFilter:
        """Return what the filter means where "default" is the place of what has no project."""
        project = self._simulations.project(identity, documents.NO_PROJECT)
        if "owner" in project:
            return wanted
        fields = {**vars(wanted), "project_id": None, "projects": []}
        return RunFilter(**{**fields, "visible_to": identity.subject})

    def _document(self, run: RunRecord) -> Document:
        return documents.job_document(run, self._services.runs.reason(run))


class Runners:
    """What the client asks about runners."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def list(self, identity: Identity, asked: Wanted) -> Document:
        """Return the agents."""
        agents = self._services.fleet.agents(identity)
        found = [documents.runner_document(agent) for agent in agents]
        return page_of(found, asked, lambda one: one)

    def get(self, identity: Identity, runner: str) -> Document:
        """Return one agent."""
        return documents.runner_document(self._services.fleet.agent(identity, runner))

    def delete(self, identity: Identity, runner: str) -> Document:
        """Forget an agent that is not there any more."""
        return documents.runner_document(
            self._services.fleet.remove(identity, runner, silent_s=SEEN_S)
        )

    def members(self, identity: Identity, body: Mapping[str, Any], *, add: bool) -> Document:
        """
        Say for whom a runner works now: for everybody who may queue runs, always.

        Who is to be added is one of our people, or a failure; nobody can be left out.
        """
        runner, emails = body.get("runner"), body.get("emails")
        texts = isinstance(emails, list) and all(isinstance(one, str) for one in emails)
        if not isinstance(runner, str) or not isinstance(emails, list) or not texts:
            raise InvalidRequest("the body is {runner, emails}: a text and a list of texts")
        agent = self._services.fleet.agent(identity, runner)
        served = [one for one in emails if add and self._is_known(identity, one)]
        why = (
            "this is nobody whom you can see here"
            if add
            else "a runner works for everybody who may queue runs here; "
            "who may not is no user of this server"
        )
        return {
            "runner": agent.name,
            "success": served,
            "failure": [one for one in emails if one not in served],
            "message": "" if len(served) == len(emails) else why,
        }

    def _is_known(self, identity: Identity, name: str) -> bool:
        try:
            return not self._services.accounts.user(identity, name).disabled
        except NotFound:
            return False


def _own(identity: Identity, **more: Any) -> RunFilter:
    """Return the filter of the runs that the caller asked for at this door."""
    creator = identity.subject if identity.kind == "user" else None
    return RunFilter(door=DOOR, created_by=creator, **more)
