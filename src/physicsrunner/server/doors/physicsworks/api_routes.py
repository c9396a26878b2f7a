"""
The calls of the published API client: decode, one call into the door's parts, encode.

Promises: every route declares its permission; all work is done in worker threads. docs of the door
say how the words of the client map to ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import open_route, origin_of
from physicsrunner.server.bodies import answer
from physicsrunner.server.doors.physicsworks.api_jobs import Jobs, Runners
from physicsrunner.server.doors.physicsworks.api_lists import FEW, MANY, wanted
from physicsrunner.server.doors.physicsworks.api_simulations import Simulations
from physicsrunner.server.doors.physicsworks.bodies import object_of
from physicsrunner.server.doors.physicsworks.files import DoorFiles
from physicsrunner.server.doors.physicsworks.grants import DOWNLOAD, Grants
from physicsrunner.server.doors.physicsworks.sessions import Sessions
from physicsrunner.server.doors.routing import Caller, Identify, allowed
from physicsrunner.server.parts import parts_of
from physicsrunner.service.services import Services

_PROJECT = "/v1/projects/{project}"
_SIMULATION = "/v1/simulations/{simulation}"
_RUN = f"{_SIMULATION}/runs/{{run}}"
_LOGGING_IN = "who logs in has no token yet"
_REFRESHING = "its body brings the token"
_SAVING: Final = 2  # trees that are saved at once: each reads and copies a whole bundle
_GRANTED = "the grant in its address is checked: one file, for some minutes"


class ClientPart:
    """The handlers, and what they share. Those without ``async`` run in the thread pool."""

    def __init__(self, services: Services, files: DoorFiles) -> None:
        self._simulations = Simulations(services, files)
        self._jobs = Jobs(services, self._simulations)
        self._runners = Runners(services)
        self._grants = Grants(services, files, self._simulations)
        self._sessions = Sessions(services)
        self._saving: CapacityLimiter | None = None

    # -- sessions --------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """Log in with a password."""
        origin = origin_of(request)
        parts_of(request).logins.take(origin)
        return await _with_body(request, lambda body: self._sessions.login(body, origin))

    async def refresh(self, request: Request) -> Response:
        """Exchange a refresh token for fresh tokens."""
        origin = origin_of(request)
        parts_of(request).logins.take(origin)
        return await _with_body(request, lambda body: self._sessions.refresh(body, origin))

    # -- projects and simulations ----------------------------------------------------------------

    def projects(self, request: Request, who: Caller) -> Response:
        """List the projects."""
        return answer(self._simulations.projects(who, wanted(request.query_params, MANY)))

    def project(self, project: str, who: Caller) -> Response:
        """Show a project."""
        return answer(self._simulations.project(who, project))

    def simulations(self, project: str, request: Request, who: Caller) -> Response:
        """List the simulations of a project."""
        asked = wanted(request.query_params, FEW)
        return answer(self._simulations.list(who, project, asked))

    def simulation(self, project: str, simulation: str, who: Caller) -> Response:
        """Show a simulation."""
        return answer(self._simulations.get(who, project, simulation))

    async def patch(self, simulation: str, request: Request, who: Caller) -> Response:
        """Change the tree of a simulation."""
        if self._saving is None:
            self._saving = CapacityLimiter(_SAVING)
        return await _with_body(
            request, lambda body: self._simulations.patch(who, simulation, body), self._saving
        )

    def check(self, simulation: str, who: Caller) -> Response:
        """Say whether a simulation can be run as it is."""
        return answer(self._simulations.check(who, simulation))

    async def run(self, simulation: str, request: Request, who: Caller) -> Response:
        """Queue a run of a simulation."""
        return await _with_body(request, lambda body: self._simulations.run(who, simulation, body))

    # -- runs and files --------------------------------------------------------------------------

    def runs(self, simulation: str, request: Request, who: Caller) -> Response:
        """List the runs of a simulation."""
        asked = wanted(request.query_params, FEW)
        return answer(self._simulations.runs(who, simulation, asked))

    def run_document(self, simulation: str, run: str, who: Caller) -> Response:
        """Show a run with its results and files."""
        return answer(self._simulations.run_document(who, simulation, run))

    def run_grant(self, simulation: str, run: str, request: Request, who: Caller) -> Response:
        """Grant the download of a file of a run."""
        return answer(self._grants.of_run(who, simulation, run, request), headers=_PRIVATE)

    def simulation_grant(self, simulation: str, request: Request, who: Caller) -> Response:
        """Grant the download of a file of a simulation."""
        return answer(self._grants.of_simulation(who, simulation, request), headers=_PRIVATE)

    def download(self, name: str, request: Request) -> Response:  # noqa: ARG002 - for people
        """Fetch the file of a grant; ranges work."""
        return self._grants.download(request)

    # -- jobs ------------------------------------------------------------------------------------

    def jobs(self, request: Request, who: Caller) -> Response:
        """List the caller's jobs."""
        return answer(self._jobs.list(who, wanted(request.query_params, MANY)))

    def job(self, run: str, who: Caller) -> Response:
        """Show a job."""
        return answer(self._jobs.get(who, run))

    def cancel(self, run: str, who: Caller) -> Response:
        """End a job that has not begun."""
        return answer(self._jobs.cancel(who, run))

    def abort(self, run: str, who: Caller) -> Response:
        """Stop a job."""
        return answer(self._jobs.abort(who, run))

    async def abort_resource(self, request: Request, who: Caller) -> Response:
        """Stop the job of a resource."""
        return await _with_body(request, lambda body: self._jobs.abort_resource(who, body))

    # -- runners ---------------------------------------------------------------------------------

    def runners(self, request: Request, who: Caller) -> Response:
        """List the runners."""
        return answer(self._runners.list(who, wanted(request.query_params, MANY)))

    def runner(self, runner: str, who: Caller) -> Response:
        """Show a runner."""
        return answer(self._runners.get(who, runner))

    def delete_runner(self, runner: str, who: Caller) -> Response:
        """Delete a runner that is gone."""
        return answer(self._runners.delete(who, runner))

    async def add_members(self, request: Request, who: Caller) -> Response:
        """Say whom of some people a runner works for."""
        return await _with_body(request, lambda body: self._runners.members(who, body, add=True))

    async def remove_members(self, request: Request, who: Caller) -> Response:
        """Say that a runner works for everybody."""
        return await _with_body(request, lambda body: self._runners.members(who, body, add=False))


_PRIVATE = {"Cache-Control": "no-store"}


async def _with_body(
    request: Request,
    call: Callable[[Mapping[str, Any]], dict[str, Any]],
    limiter: CapacityLimiter | None = None,
) -> Response:
    body = await object_of(request)
    return await to_thread.run_sync(lambda: answer(call(body)), limiter=limiter)


def add_client_part(routes: APIRouter, prefix: str, part: ClientPart, identified: Identify) -> None:
    """Add the client's calls to *routes*, below *prefix*."""

    def add(method: str, path: str, call: Callable[..., Any], permission: str) -> None:
        guard = allowed(permission, identified)
        routes.add_api_route(prefix + path, call, methods=[method], dependencies=[guard])

    def add_open(methods: list[str], path: str, call: Callable[..., Any], why: str) -> None:
        for method in methods:
            guard = open_route(why)
            routes.add_api_route(prefix + path, call, methods=[method], dependencies=[guard])

    add("GET", "/v1/jobs", part.jobs, "runs:read")
    add("GET", "/v1/jobs/{run}", part.job, "runs:read")
    add("POST", "/v1/jobs/cancel/{run}", part.cancel, "runs:cancel")
    add("POST", "/v1/jobs/abort/{run}", part.abort, "runs:cancel")
    add("POST", "/v1/jobs/abort", part.abort_resource, "runs:cancel")
    add("POST", "/v1/simulation/run/{simulation}", part.run, "runs:create")
    add("PATCH", "/v1/simulation/tree/{simulation}", part.patch, "models:create")
    add("POST", "/v1/simulation/tree/check/{simulation}", part.check, "models:read")
    add("GET", f"{_SIMULATION}/runs", part.runs, "runs:read")
    add("GET", _RUN, part.run_document, "runs:read")
    add("GET", f"{_RUN}/files/download", part.run_grant, "files:read")
    add("GET", f"{_SIMULATION}/files/download", part.simulation_grant, "models:read")
    add("GET", "/v1/projects", part.projects, "projects:read")
    add("GET", _PROJECT, part.project, "projects:read")
    add("GET", f"{_PROJECT}/simulations", part.simulations, "models:read")
    add("GET", f"{_PROJECT}/simulations/{{simulation}}", part.simulation, "models:read")
    add("GET", "/v1/runners", part.runners, "agents:read")
    add("GET", "/v1/runners/{runner}", part.runner, "agents:read")
    add("DELETE", "/v1/runners/{runner}", part.delete_runner, "agents:remove")
    add("PUT", "/v1/runners/members/add", part.add_members, "agents:read")
    add("PUT", "/v1/runners/members/remove", part.remove_members, "agents:read")
    add_open(["GET", "HEAD"], DOWNLOAD, part.download, _GRANTED)
    add_open(["POST"], "/auth/login", part.login, _LOGGING_IN)
    add_open(["POST"], "/auth/v1/refresh_token", part.refresh, _REFRESHING)
