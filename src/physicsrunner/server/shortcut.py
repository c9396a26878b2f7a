"""
The short way to the routes that agents, runners and those who wait for runs ask for all the time.

Why: between a request's head and its handler lie a dozen layers (socket.io, the framework's
middlewares and routers, the solving of dependencies), which cost more than most of these handlers.

How: a request that is plainly in order (one of these routes, a token that is known and may do it,
a body of a length that is said and allowed) goes to the route's own handler. Every other one takes
the long way, on which whatever is wrong with it is said: nothing is refused here.

Promises: the routes are the framework's, so that their path, handler and permission are said once,
where they are declared. What a handler raises is answered, and every request counted, as on the
long way.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from physicsrunner.core import permissions
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.server import problems
from physicsrunner.server.auth import Permission, markers_of, origin_of
from physicsrunner.server.parts import Parts
from physicsrunner.service.access import Identity

_BEARER: Final = b"Bearer "
_DIGITS: Final = 18  # of a length
#: By these a body comes in another way, or waits to be asked for.
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect"})


@dataclass(frozen=True)
class Short:
    """A route with a handler that needs nothing but the request, the caller and the parts."""

    path: str
    permission: str
    handler: Callable[[Request, Identity, Parts], Awaitable[Response]]


def short_routes(routers: Iterable[APIRouter]) -> Mapping[tuple[str, str], Short]:
    """Return the routes of *routers*, of which each has one permission, by method and path."""
    found: dict[tuple[str, str], Short] = {}
    for route in (route for router in routers for route in router.routes):
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route} is no route of the API")
        (marker,) = markers_of(route.dependant)
        if not isinstance(marker, Permission):
            raise TypeError(f"{route.path} needs no permission")
        short = Short(route.path, marker.permission, route.endpoint)
        found.update(((method, route.path), short) for method in route.methods or ())
    return found


class Shortcut:
    """ASGI application: the short routes by themselves, everything else through *app*."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[tuple[str, str], Short],
        parts: Callable[[], Parts | None],
    ) -> None:
        self._app = app
        self._routes: Mapping[Any, Short] = routes
        self._parts = parts  # there are none before the application has started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get((scope.get("method"), scope.get("path")))
        parts = None if route is None else self._parts()
        if route is None or parts is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        who = _caller(request, route, parts)
        if who is None:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        try:
            response = await route.handler(request, who, parts)
        except Exception as error:
            response = await problems.answer_to(request, error)
        parts.metrics.answered(scope["method"], route.path, response.status_code, began)
        await response(scope, receive, send)


def _caller(request: Request, route: Short, parts: Parts) -> Identity | None:
    """Return who calls; None if anything about the request asks for the long way."""
    token = length = b""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            if token or not value.startswith(_BEARER):
                return None
            token = value[len(_BEARER) :]
        elif name == b"content-length":
            if length:
                return None
            length = value
        elif name in _UNUSUAL:
            return None
    if not length and request.method == "GET":
        length = b"0"
    if not token or not length.isdigit() or len(length) > _DIGITS:
        return None
    if int(length) > parts.limits.of(route.path):
        return None
    try:
        # None also when the store has to be asked, which would keep everybody waiting.
        who = parts.services.access.recall(token.decode("latin-1").strip(), origin_of(request))
    except PhysicsRunnerError:
        return None
    if who is None or who.scope(route.permission) is permissions.Scope.NONE:
        return None
    return who
