"""
The calls of the acoustics door: decode, one call into a service, encode.

Promises: every route says which permission it needs; all work is done in worker threads. What is
wrong with a request is told in the shape of FastAPI, as the document's backend would, and
everything else as a problem document, whose ``detail`` is a text. An id that is none is a job that
is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.responses import StreamingResponse

from physicsrunner.server.bodies import plain_answer, read
from physicsrunner.server.doors import local
from physicsrunner.server.doors.ath import payload
from physicsrunner.server.doors.ath.manager import JobManager
from physicsrunner.server.doors.routing import Caller, allowed
from physicsrunner.server.downloads import file_response
from physicsrunner.service.services import Services

BASE: Final = "/api"
JOBS: Final = f"{BASE}/jobs"
JOB: Final = f"{JOBS}/{{job_id}}"
_DECODING: Final = 4  # requests that are decoded at once: a mesh takes some times its size
_PLAIN: Final = "text/plain; charset=utf-8"


class _Route(APIRoute):
    """A route that says as FastAPI does what is wrong with a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                return JSONResponse({"detail": [_shown(one) for one in error.errors()]}, 422)

        return told


def _shown(problem: Any) -> dict[str, Any]:
    return {name: problem[name] for name in ("type", "loc", "msg")}


def router(services: Services) -> APIRouter:
    """Return the routes of this door, to be included below ``/ath``."""
    calls = _Calls(services)
    routes = APIRouter(route_class=_Route)
    identified = local.caller(services)

    def add(path: str, call: Callable[..., Any], method: str, permission: str) -> None:
        guard = allowed(permission, identified)
        routes.add_api_route(path, call, methods=[method], dependencies=[guard])

    add(f"{BASE}/status/{{job_id}}", calls.status, "GET", "runs:read")
    add(JOBS, calls.list, "GET", "runs:read")
    add(f"{JOBS}/export", calls.export, "GET", "runs:read")
    add(JOB, calls.show, "GET", "runs:read")
    add(JOB, calls.label, "PATCH", "runs:update")
    add(JOB, calls.delete, "DELETE", "runs:delete")
    add(f"{BASE}/solve", calls.solve, "POST", "runs:create")
    add(f"{BASE}/stop/{{job_id}}", calls.stop, "POST", "runs:cancel")
    add(f"{BASE}/results/{{job_id}}", calls.results, "GET", "files:read")
    add(f"{BASE}/mesh-artifact/{{job_id}}", calls.mesh, "GET", "files:read")
    return routes


All = Annotated[bool, Query(alias="all", description="Also runs that did not come by this door")]


class _Calls:
    """The handlers. Those without ``async`` run in the thread pool."""

    def __init__(self, services: Services) -> None:
        self._jobs = JobManager(services)
        self._decoding: CapacityLimiter | None = None

    async def solve(self, request: Request, who: Caller) -> Response:
        """Put a job into the queue."""
        body = await request.body()
        if self._decoding is None:
            self._decoding = CapacityLimiter(_DECODING)

        def work() -> str:
            return self._jobs.solve(who, payload.read(body))

        job = await to_thread.run_sync(work, limiter=self._decoding)
        return plain_answer({"job_id": job})

    def status(self, job_id: str, who: Caller) -> Response:
        """Say where a job stands."""
        return plain_answer(self._jobs.status(who, job_id))

    def stop(self, job_id: str, who: Caller) -> Response:
        """Stop a job that is queued or running."""
        status = self._jobs.stop(who, job_id)
        return plain_answer({"message": f"Job {job_id} has been cancelled", "status": status})

    def results(self, job_id: str, who: Caller, request: Request) -> Response:
        """Give the file of results that main.py left."""
        found = self._jobs.results(who, job_id)
        return file_response(
            request, found.path, name=found.name, sha256=found.sha256, media="application/json"
        )

    def mesh(self, job_id: str, who: Caller, request: Request) -> Response:
        """Give the mesh that main.py left, as text."""
        found = self._jobs.mesh(who, job_id)
        return file_response(
            request, found.path, name=found.name, sha256=found.sha256, media=_PLAIN
        )

    def list(
        self,
        who: Caller,
        status: Annotated[str | None, Query(description="A comma list of states")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
        every: All = False,
    ) -> Response:
        """List jobs, the newest first."""
        items, total = self._jobs.page(who, status or "", limit, offset, every=every)
        return plain_answer({"items": items, "total": total, "limit": limit, "offset": offset})

    def show(self, job_id: str, who: Caller) -> Response:
        """Show one job as lists do, with its whole configuration."""
        return plain_answer(self._jobs.show(who, job_id))

    async def label(self, job_id: str, request: Request, who: Caller) -> Response:
        """Give a job another label, or none."""
        label = await read(await request.body(), payload.read_label)
        return plain_answer(await to_thread.run_sync(self._jobs.label, who, job_id, label))

    def delete(self, job_id: str, who: Caller) -> Response:
        """Delete a job that has ended, or was stopped."""
        return plain_answer({"deleted": True, "job_id": self._jobs.delete(who, job_id)})

    def export(self, who: Caller, every: All = False) -> Response:
        """Give all jobs with their configurations, as one JSON document, the oldest first."""
        pieces = self._jobs.export(who, every=every)
        headers = {"Content-Disposition": 'attachment; filename="ath-jobs.json"'}
        return StreamingResponse(pieces, media_type="application/json", headers=headers)
