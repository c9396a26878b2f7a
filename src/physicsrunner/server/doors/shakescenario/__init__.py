"""
The ShakeScenario door: jobs over TCP, in length-prefixed JSON.

docs/shakescenario.md says which operations there are and how they are answered. It listens on a
socket that `serve` has bound, beside the one of HTTP.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from physicsrunner.server.doors.shakescenario.door import Door, served
from physicsrunner.server.doors.shakescenario.folders import Folders
from physicsrunner.server.doors.shakescenario.jobs import DOOR
from physicsrunner.server.doors.shakescenario.keeping import kept
from physicsrunner.server.parts import Parts

__all__ = ["lifespan"]


@contextlib.asynccontextmanager
async def lifespan(parts: Parts) -> AsyncIterator[None]:
    """Serve the door's connections while the block lasts."""
    listener, root = parts.sockets.get(DOOR), parts.services.options.shakescenario_folder
    async with contextlib.AsyncExitStack() as stack:
        if root is not None:
            await stack.enter_async_context(kept(Folders(parts.services, root), parts.hub))
        if listener is not None:  # else its port was taken
            await stack.enter_async_context(served(Door(parts), listener))
        yield
