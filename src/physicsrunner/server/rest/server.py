"""The server itself: health, metrics, and its description for people and machines."""

from __future__ import annotations

import importlib.resources
from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse

import physicsrunner
from physicsrunner.errors import NotAllowed, NotFound
from physicsrunner.server.auth import open_route
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives, gives_bytes
from physicsrunner.server.parts import Shared

router = APIRouter(tags=["server"])

_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
# Swagger UI from a wheel on this machine (fastapi-offline carries it): /docs must work where there
# is no way out, and a page that holds tokens should load no script of a stranger's.
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


@router.get(
    "/health",
    summary="Is it up",
    responses=gives({"status": str, "version": str}, {"status": "ok", "version": "0.1.0"}),
    dependencies=[open_route("whoever watches over the server asks whether it is up")],
)
async def health(parts: Shared) -> Response:
    """Answer 200 while the server takes requests; open to everybody."""
    status = "stopping" if parts.hub.closed else "ok"
    return answer({"status": status, "version": getattr(physicsrunner, "__version__", "unknown")})


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses=gives_bytes("text/plain", "Prometheus text format"),
    dependencies=[open_route("answered to callers on the server's own machine alone")],
)
async def metrics(request: Request, parts: Shared) -> Response:
    """Answer to callers on this machine alone."""
    host = request.client.host if request.client is not None else ""
    # Who comes through a proxy on this machine that we do not know looks as if from here.
    hidden = "x-forwarded-for" in request.headers and not parts.services.options.trusted_proxies
    if hidden or not host.startswith(_LOOPBACK):
        raise NotAllowed("the counters are shown on the server's own machine only")
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


_DESCRIPTION: Final = open_route("it describes the API, and shows nothing of what is stored")


@router.get("/openapi.json", include_in_schema=False, dependencies=[_DESCRIPTION])
async def description(request: Request) -> Response:
    """Describe the API for programs."""
    return answer(await to_thread.run_sync(request.app.openapi))


@router.get("/docs", include_in_schema=False, dependencies=[_DESCRIPTION])
async def docs(request: Request) -> Response:
    """Show the description with Swagger UI."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{request.app.title}: API",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
        swagger_ui_parameters={"persistAuthorization": False, "docExpansion": "list"},
    )


@router.get("/docs/{name}", include_in_schema=False, dependencies=[_DESCRIPTION])
async def docs_asset(name: str) -> Response:
    """Serve a part of Swagger UI."""
    media = _ASSETS.get(name)
    found: Any = importlib.resources.files("fastapi_offline") / "static" / name
    if media is None or not found.is_file():
        raise NotFound(f"there is no part {name!r} of the page")
    return FileResponse(str(found), media_type=media, headers={"Cache-Control": "max-age=86400"})
