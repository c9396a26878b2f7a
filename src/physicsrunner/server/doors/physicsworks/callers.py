"""
Who calls on this wire: the header ``auth-token``, or on this machine the person of ``door_user``.

``Authorization: Bearer`` counts, too: a token that is given is judged, wherever it stands.

Promises: an attempt's token that has expired is exchanged for the caller, because this wire has no
way to hand out a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping

from anyio import to_thread
from fastapi import Request

from physicsrunner.errors import NotAllowed, TokenExpired
from physicsrunner.server.auth import authenticated, origin_of
from physicsrunner.server.doors.local import DoorAccess, bearer
from physicsrunner.server.doors.routing import Identify
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.physicsworks import AUTH_HEADER


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token of a request; the published client sends an empty header without one."""
    return headers.get(AUTH_HEADER, "").strip() or bearer(headers)


def identify(services: Services) -> Identify:
    """Return the dependency that says who calls."""
    door = DoorAccess(services, f"the header {AUTH_HEADER}: <token>")

    async def known(request: Request) -> Identity:
        try:
            return await door.of_request(request, token_of)
        except TokenExpired as expired:
            token = token_of(request.headers) or ""
            try:
                fresh = await to_thread.run_sync(services.access.exchange, token)
            except NotAllowed:
                raise expired from None  # a person's
            return await authenticated(services.access, fresh, origin_of(request))

    known.__annotations__["request"] = Request  # a text of this module is none of FastAPI's
    return known  # type: ignore[return-value]  # it is only ever given requests
