"""
The audit: every change with who, what, from where and when.

Promises: it is the one event log, read with the fields that its envelope does not carry; there is
no second bookkeeping that could differ from it. It is shown to those who may read it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from physicsrunner.errors import InvalidRequest
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.store.base import Store
from physicsrunner.wire.live import Event

PAGE: Final = 1000


class AuditService:
    """The event log, with names and addresses. Thread-safe."""

    def __init__(self, store: Store, access: AccessService) -> None:
        self._store = store
        self._access = access

    def entries(
        self,
        identity: Identity,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
        limit: int = PAGE,
    ) -> list[Event]:
        """
        Return the entries behind *after*, ascending.

        Parameters
        ----------
        actor
            Who caused them: a person's name, or ``agent:NAME``.
        kind
            Their type, such as ``token/revoked``, or the beginning of it: ``token/*``.
        limit
            At most `PAGE`.
        """
        self._access.require(identity, "audit:read")
        if after < 0 or limit < 1:
            raise InvalidRequest("after is not under 0, and limit not under 1")
        return self._store.audit(after=after, actor=actor, kind=kind, limit=min(limit, PAGE))

    def all(
        self,
        identity: Identity,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
    ) -> Iterator[list[Event]]:
        """Yield all entries behind *after*, page by page: for an export."""
        while page := self.entries(identity, after=after, actor=actor, kind=kind):
            yield page
            after = page[-1].id or after


def entry(event: Event) -> dict[str, Any]:
    """Return an entry as it is shown: the event's envelope, with who and from where."""
    return {**event.envelope(), "actor": event.actor, "origin": event.origin}
