"""Many runs in one request, and the studies that they belong to."""

from __future__ import annotations

from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.core.run import NewStudy
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import message, parsed, plain_answer
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.documents import REQUEST, RUN_ID
from physicsrunner.server.rest.simulations import requested
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.store.base import StudyFilter
from physicsrunner.wire import codec, rest
from physicsrunner.wire.batch import BATCH_MARKS, BatchAnswer, BatchRequest, runs_of, study_of
from physicsrunner.wire.reading import MOST_MARKS, check_values, marks

router = APIRouter(tags=["simulations"])

Creator = Annotated[Identity, Allowed("runs:create")]
StudyReader = Annotated[Identity, Allowed("studies:read")]
StudyCreator = Annotated[Identity, Allowed("studies:create")]

_DEEPEST: Final = 100_000  # the largest offset, as of runs
_STUDY_ID = "8d0fe1f5-4f0b-4f0e-8f4f-2f7f1a1b9c11"
_STUDY = {
    "id": _STUDY_ID,
    "name": "re-sweep",
    "created_by": "admin",
    "created_at": 1767225600.0,
    "max_concurrent_runs": 8,
    "counts": {"queued": 90, "running": 8, "completed": 2},
}
_SHAPE = {
    "id": str,
    "name": str,
    "project_id": str,
    "created_by": str,
    "created_at": float,
    "max_concurrent_runs": int,
    "counts": {"queued": int},
}


@router.post(
    rest.BATCH,
    status_code=201,
    summary="Create many runs",
    openapi_extra=takes(
        BatchRequest,
        {
            "base_request": REQUEST,
            "parameter_variations": [{"parameters": {"reynolds": re}} for re in (100, 400, 1000)],
            "study": {"name": "re-sweep", "max_concurrent_runs": 8},
        },
    ),
    responses=gives(
        BatchAnswer,
        {"count": 1, "study": _STUDY_ID, "first": 17, "last": 17, "ids": [RUN_ID]},
        status=201,
    ),
)
async def create_many(request: Request, who: Creator, parts: Shared) -> Response:
    """
    Queue at most 10,000 runs in one transaction: all of them or none.

    Either ``runs``, each in full, or ``base_request`` with ``parameter_variations``. With ids of
    the caller's (of each run, or of the base) a repeat is harmless.
    """
    body = await request.body()
    return await to_thread.run_sync(_create_many, parts.services, who, body)


def _create_many(services: Services, who: Identity, body: bytes) -> Response:
    wanted = codec.decode(BatchRequest, requested(parsed(body, BATCH_MARKS)))
    if marks(body) > MOST_MARKS:
        for run in (*wanted.runs, wanted.base_request, *wanted.parameter_variations):
            if run is not None:  # each is stored, and answered, by itself
                check_values(run.parameters, "a run of the batch")
    created = services.runs.create_many(who, runs_of(wanted), study_of(wanted))
    ids = [run.id for run in created]
    numbers = [run.number for run in created]
    found: dict[str, object] = {
        "count": len(ids),
        "first": min(numbers),
        "last": max(numbers),
        "ids": ids,
    }
    if created[0].study_id is not None:
        found["study"] = created[0].study_id
    return plain_answer(found, 201)


@router.get(
    rest.STUDIES,
    tags=["queue"],
    summary="List studies",
    responses=gives({"data": [_SHAPE]}, {"data": [_STUDY]}),
)
async def list_studies(
    who: StudyReader,
    parts: Shared,
    project_id: str | None = None,
    name: Annotated[str | None, Query(description="The whole name")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=_DEEPEST)] = 0,
) -> Response:
    """
    List the studies that the caller may see, the newest first, with how their runs stand.

    A page with fewer than ``limit`` is the last one.
    """
    wanted = StudyFilter(project_id, name, limit=limit, offset=offset)
    found = await to_thread.run_sync(parts.services.studies.list, who, wanted)
    return plain_answer({"data": found})


@router.post(
    rest.STUDIES,
    tags=["queue"],
    status_code=201,
    summary="Create a study",
    openapi_extra=takes(NewStudy, {"name": "re-sweep", "max_concurrent_runs": 8}),
    responses=gives(_SHAPE, _STUDY, status=201),
)
async def create_study(request: Request, who: StudyCreator, parts: Shared) -> Response:
    """Make a study; runs join it by ``study_id``. ``id`` makes a repeat harmless."""
    wanted = await message(request, NewStudy)
    return plain_answer(await to_thread.run_sync(parts.services.studies.create, who, wanted), 201)


@router.get(
    f"{rest.STUDIES}/{{study}}",
    tags=["queue"],
    summary="Show a study",
    responses=gives(_SHAPE, _STUDY),
)
async def show_study(study: str, who: StudyReader, parts: Shared) -> Response:
    """Show a study with how many of its runs are in which state."""
    return plain_answer(await to_thread.run_sync(parts.services.studies.get, who, study))
