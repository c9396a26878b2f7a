"""
Who calls, and what a route asks of them: from the Authorization header to an `Identity`.

Promises: every route declares the permission that it needs (`Allowed`), or that it is open and why
(`open_route`); a test lists the routes that do neither and fails. A request without a good token is
answered 401, one whose token can never have the permission 403, before its handler runs. For which
runs the permission holds is decided by the service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from physicsrunner.core.permissions import PERMISSIONS, Scope
from physicsrunner.errors import NotAllowed
from physicsrunner.server.parts import parts_of
from physicsrunner.service.access import AccessService, Identity

_SCHEME = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="JWT",
    description="A token of a user, an agent or an attempt: `Authorization: Bearer <JWT>`.",
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]


async def token_of(credentials: Bearer) -> str | None:
    """Return the token that the request carries; None when it carries none."""
    return credentials.credentials.strip() if credentials is not None else None


Token = Annotated[str | None, Depends(token_of)]


def origin_of(request: Request) -> str | None:
    """Return the network address that the request came from, for the audit."""
    # Behind a trusted proxy the server has put the forwarded address here.
    # What a proxy forwards is a text of anybody's: no longer than an address can be.
    return request.client.host[:64] if request.client is not None else None


async def authenticated(access: AccessService, token: str | None, origin: str | None) -> Identity:
    """Return who bears *token*; wait in a thread only where the store has to be asked."""
    found = access.recall(token, origin)
    if found is not None:
        return found
    return await to_thread.run_sync(access.authenticate, token, origin)


async def identify(request: Request, token: Token) -> Identity:
    """Return who calls, or raise `NotAuthenticated`."""
    return await authenticated(parts_of(request).services.access, token, origin_of(request))


Caller = Annotated[Identity, Depends(identify)]


class Permission:
    """The marker of a route that needs a permission; as a dependency it checks it."""

    def __init__(
        self, permission: str, caller: Callable[..., Awaitable[Identity]] = identify
    ) -> None:
        if permission not in PERMISSIONS:
            raise ValueError(f"core.permissions has no {permission!r}")
        self.permission = permission

        async def check(who: Identity) -> Identity:
            if who.scope(permission) is Scope.NONE:
                raise NotAllowed(f"{who} has no permission {permission}")
            return who

        # Said here and not above: a text of the module would not know this `caller`.
        check.__annotations__["who"] = Annotated[Identity, Depends(caller)]
        check.marker = self  # type: ignore[attr-defined]  # read by `markers_of`
        self.check = check


class Open:
    """The marker of a route that needs no token, and why."""

    def __init__(self, why: str) -> None:
        self.why = why

        async def check() -> None:
            return None

        check.marker = self  # type: ignore[attr-defined]  # read by `markers_of`
        self.check = check


def Allowed(permission: str) -> Any:  # noqa: N802 - stands where FastAPI has Depends
    """
    Return the dependency of a route that needs *permission*.

    Examples
    --------
    ``@router.get(path, dependencies=[Allowed("runs:read")])`` beside ``who: Caller``, or in its
    place: ``who: Annotated[Identity, Allowed("runs:read")]``.
    """
    return Depends(Permission(permission).check)


def open_route(why: str) -> Any:
    """Return the dependency of a route that everybody may call, and say why."""
    return Depends(Open(why).check)


def markers_of(dependant: Dependant) -> Iterator[Permission | Open]:
    """Return what a route has declared, from FastAPI's own description of it."""
    marker = getattr(dependant.call, "marker", None)
    if isinstance(marker, (Permission, Open)):
        yield marker
    for inner in dependant.dependencies:
        yield from markers_of(inner)
