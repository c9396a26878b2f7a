"""
To what a new token is confined.

Promises: a token that is confined itself makes none that may do more. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from physicsrunner.core.permissions import PERMISSIONS
from physicsrunner.errors import InvalidRequest, NotAllowed
from physicsrunner.service.identity import Identity


def is_confined(identity: Identity) -> bool:
    """Say whether the caller's token gives less than the caller has."""
    return identity.scopes is not None or identity.project is not None


def confined(
    identity: Identity, scopes: Sequence[str] | None, project: str | None
) -> tuple[list[str] | None, str | None]:
    """Return to what a new token is confined; raise where the caller's own token gives less."""
    if scopes is not None:
        unknown = sorted(set(scopes) - PERMISSIONS)
        if unknown:
            raise InvalidRequest(f"there is no permission {', '.join(unknown)[:200]}")
        scopes = sorted(set(scopes))
    if identity.scopes is not None:
        scopes = sorted(identity.scopes) if scopes is None else scopes
        if not set(scopes) <= identity.scopes:
            raise NotAllowed("a confined token makes no token that may do more")
    if identity.project is not None:
        project = identity.project if project is None else project
        if project != identity.project:
            raise NotAllowed(f"the token is confined to project {identity.project}")
    return (None if scopes is None else list(scopes)), project
