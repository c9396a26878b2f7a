"""
Who may have something said to whom, over the live lines of a door.

Promises: somebody is heard by their own connections and by those who hear of runs that they may
steer; to other people and to all, those alone speak who may do so for the whole server.
"""

from __future__ import annotations

from physicsrunner.core.permissions import Scope
from physicsrunner.errors import NotAllowed
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.runs import RunService

SEND = "messages:send"


class MessageService:
    """Judges messages; who is there to hear them, the door knows. Thread-safe."""

    def __init__(self, access: AccessService, runs: RunService) -> None:
        self._access = access
        self._runs = runs

    def about(self, identity: Identity, run: str) -> str:
        """Return the id of a run of which *identity* may speak to all who hear of it, or raise."""
        found = self._runs.get(identity, run)
        self._access.require(identity, SEND, found, asked=run)
        return found.id

    def to_all(self, identity: Identity) -> None:
        """Raise `NotAllowed` unless *identity* may speak to everybody."""
        if identity.scope(SEND) is not Scope.ANY:
            raise NotAllowed(f"{identity} may not speak to everybody: name a simulation_id")

    def to_person(self, identity: Identity, other: Identity) -> bool:
        """Say whether *identity* may speak to connections of *other*."""
        own = (identity.kind, identity.subject) == (other.kind, other.subject)
        return own or identity.scope(SEND) is Scope.ANY
