"""
Pages of elsewhere that may call the doors, by the setting ``cors_origins``; without it none may.

Promises: only what lies below a door's path is opened, to the named pages alone, and never with a
browser's own credentials: such a page brings a token. (Where the operator named a person for this
machine, `doors.local` takes the named pages for that, too.)
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

#: What a page may read of an answer besides its body.
_EXPOSED = ("Retry-After", "X-Total-Count")


class DoorCors:
    """CORS for the paths of doors; everything else passes as it is."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], doors: Sequence[str]) -> None:
        self._app = app
        self._below = tuple(f"/{door}/" for door in doors)
        self._opened = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "auth-token"),
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        opened = scope["type"] == "http" and scope["path"].startswith(self._below)
        await (self._opened if opened else self._app)(scope, receive, send)
