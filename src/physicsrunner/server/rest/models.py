"""Models: versioned, immutable bundles with a main.py."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, stored
from physicsrunner.server.downloads import file_response
from physicsrunner.server.openapi import gives, gives_bytes, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest

router = APIRouter(tags=["models"])

Creator = Annotated[Identity, Allowed("models:create")]
Reader = Annotated[Identity, Allowed("models:read")]

_MODEL = {
    "id": "5c1f2e0a-7f0e-4a4e-9a53-3a1f5b0c2d11",
    "name": "cavity",
    "version": "9f2c" + "0" * 60,
    "size": 4096,
    "sha256": "ab12" + "0" * 60,
    "created": 1767225600.0,
}
_SHAPE = {
    "id": str,
    "name": str,
    "version": str,
    "size": int,
    "sha256": str,
    "created": float,
}


@router.post(
    rest.MODELS,
    status_code=201,
    summary="Store a model",
    openapi_extra=takes(bytes, media="application/zip"),
    responses=gives(_SHAPE, _MODEL, status=201),
)
async def add(
    request: Request,
    who: Creator,
    parts: Shared,
    name: Annotated[str | None, Query()] = None,
    project_id: Annotated[str | None, Query(description="Whose members may use it")] = None,
) -> Response:
    """
    Store the zip that is the body; main.py lies at its top.

    The version is the SHA-256 of its content: the same content again is the same version.
    """
    with parts.bodies.one():
        parts.services.access.require_in(who, "models:create", project_id)
        async with stored(request, parts.services.scratch) as body:
            keep = parts.services.models.add
            model = await to_thread.run_sync(keep, who, body.path, name, project_id)
    return answer(model, 201)


@router.get(
    rest.MODELS, summary="List models", responses=gives({"data": list[object]}, {"data": [_MODEL]})
)
async def list_models(who: Reader, parts: Shared) -> Response:
    """List the models, the newest version of each first."""
    return answer({"data": await to_thread.run_sync(parts.services.models.list, who)})


@router.get(
    f"{rest.MODELS}/{{model}}/versions/{{version}}/bundle",
    summary="Fetch a model's zip",
    response_class=Response,
    responses=gives_bytes("application/zip"),
)
async def bundle(
    request: Request, model: str, version: str, who: Reader, parts: Shared
) -> Response:
    """Fetch the zip; ranges work."""

    def find() -> Response:
        path = parts.services.models.bundle(who, model, version)
        name = f"{version[:12]}.zip"
        return file_response(request, path, name=name, media="application/zip")

    return await to_thread.run_sync(find)
