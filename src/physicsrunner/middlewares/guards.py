"""
The guards: decorators of views and endpoints.

Promises: a guarded function is called only for a caller whose token was verified and who has the
permissions that are named; others are answered 401 or 403 in the way of the framework, as
problem+json. The caller stands on ``request.current_user``, in FastAPI and Starlette on
``request.state.current_user`` too, and in Flask on ``flask.g.current_user``. Sync functions stay
sync, async ones async; asking the server never holds up an event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from physicsrunner.errors import NotAllowed, NotAuthenticated, PhysicsRunnerError, UsageError
from physicsrunner.middlewares import frameworks
from physicsrunner.middlewares.user import CurrentUser
from physicsrunner.middlewares.verify import verifier

F = TypeVar("F", bound=Callable[..., Any])

_HEADER = "auth-token"  # of the PhysicsWorks wire


@overload
def auth_guard(function: F) -> F: ...
@overload
def auth_guard(function: None = None) -> Callable[[F], F]: ...
def auth_guard(function: F | None = None) -> F | Callable[[F], F]:
    """
    Let a view be called with a good token only.

    Examples
    --------
    ``@auth_guard`` above ``def protected_route(request)``: the caller is ``request.current_user``.
    """
    return _guarded(()) if function is None else _guarded(())(function)


def permission_guard(*permissions: str) -> Callable[[F], F]:
    """
    Let a view be called only by those who have all *permissions*, such as ``"resource:write"``.

    Permissions of physicsrunner's table are those of the server; what roles give of others,
    `configure` says. Where the table grants one for one's own things alone, it is passed:
    ``request.current_user.scope(permission)`` tells.
    """
    if not permissions or not all(_is_permission(item) for item in permissions):
        raise UsageError("permission_guard takes permissions such as 'resource:write'")
    return _guarded(permissions)


def _is_permission(item: object) -> bool:
    return isinstance(item, str) and all(item.partition(":"))


def _guarded(permissions: tuple[str, ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):
            made: Any = _async(function, permissions)
        else:
            made = _sync(function, permissions)
        frameworks.describe(made, function)
        guarded: F = made
        return guarded

    return decorate


def _sync(function: Callable[..., Any], permissions: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        call = frameworks.Call(function, args, kwargs)
        try:
            call.admit(_check(call.headers, permissions))
        except PhysicsRunnerError as error:
            return call.refuse(error)
        return function(*call.args, **call.kwargs)

    return called


def _async(function: Callable[..., Any], permissions: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        call = frameworks.Call(function, args, kwargs)
        try:
            call.admit(await asyncio.to_thread(_check, call.headers, permissions))
        except PhysicsRunnerError as error:
            return call.refuse(error)
        return await function(*call.args, **call.kwargs)

    return called


def _check(headers: Mapping[str, str], permissions: tuple[str, ...]) -> CurrentUser:
    known = verifier()
    user = known.look_up(_token(headers))
    for permission in permissions:
        if not user.has(permission, known.roles):
            raise NotAllowed(f"{user.name} has no permission {permission}")
    return user


def _token(headers: Mapping[str, str]) -> str:
    kind, _, token = (headers.get("Authorization") or "").partition(" ")
    found = token.strip() if kind.lower() == "bearer" else (headers.get(_HEADER) or "").strip()
    if not found:
        raise NotAuthenticated("there is no token; send Authorization: Bearer <token>")
    return found
