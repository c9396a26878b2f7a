"""
What every front door is given: the services and what the doors share.

Promises: made once by `app` and never changed; a handler asks for it by the dependency `Shared`
and for the caller by `auth.Caller`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from physicsrunner.server.hub import Hub
from physicsrunner.server.limits import Limits
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.ratelimit import RateLimit
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.services import Services


class OpenBodies:
    """Counts bodies that are being taken in, so that the server ends none of them half way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold while one body is taken in."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until no body is open, at most *timeout* seconds; say whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


@dataclass(frozen=True)
class Parts:
    """The server's parts, as its doors see them."""

    services: Services
    hub: Hub
    rooms: Rooms
    limits: Limits
    metrics: Metrics
    logins: RateLimit  #: tries by address
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)  #: of doors, bound
    bodies: OpenBodies = field(default_factory=OpenBodies)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def parts_of(request: Request) -> Parts:
    """Return the parts of the server that *request* came to."""
    parts: Parts = request.app.state.parts
    return parts


async def _shared(request: Request) -> Parts:
    # A dependency that is no coroutine is called in another thread, which costs more than a route.
    return parts_of(request)


Shared = Annotated[Parts, Depends(_shared)]
