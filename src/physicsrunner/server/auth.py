"""
Who calls: from the Authorization header to an `Identity`.

Promises: every route that names `Caller` answers 401 to a request without a good token, before its
handler runs. What the caller may do is decided by the service, not here.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from physicsrunner.server.parts import parts_of
from physicsrunner.service.access import Identity

_SCHEME = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="JWT",
    description="A token of a user, an agent or an attempt: `Authorization: Bearer <JWT>`.",
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]


def token_of(credentials: Bearer) -> str | None:
    """Return the token that the request carries; None when it carries none."""
    return credentials.credentials.strip() if credentials is not None else None


Token = Annotated[str | None, Depends(token_of)]


def identify(request: Request, token: Token) -> Identity:
    """Return who calls, or raise `NotAuthenticated`."""
    return parts_of(request).services.access.authenticate(token)


Caller = Annotated[Identity, Depends(identify)]
