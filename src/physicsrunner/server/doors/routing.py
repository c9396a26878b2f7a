"""
How a door's routes say what they need, and how their handlers learn who calls.

Promises: who calls is found out once, by the door's own way (`Identify`), before anything else of
the request is looked at; a handler is given the caller by `Caller`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from physicsrunner.server.auth import Permission
from physicsrunner.service.identity import Identity

#: Says who calls, for `auth.Permission`.
Identify = Callable[[HTTPConnection], Awaitable[Identity]]


def allowed(permission: str, identified: Identify) -> Any:
    """Return the dependency of a route that needs *permission*."""
    checked = Permission(permission, identified).check

    async def known(request: Request, who: Identity) -> None:
        request.state.caller = who  # what `_who` gives to the handler

    known.__annotations__["who"] = Annotated[Identity, Depends(checked)]
    return Depends(known)


async def _who(request: Request) -> Identity:  # one without ``async`` would cost a thread
    found: Identity = request.state.caller
    return found


Caller = Annotated[Identity, Depends(_who)]
