"""
People for whom something acts without a token: a door whose operator has named one of them.

Promises: they may what they may with a token of their own that is confined to nothing; what this
process changes counts at once, what another one changes after `standing.MAX_AGE_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from physicsrunner.errors import NotAllowed, NotAuthenticated
from physicsrunner.service.bearers import person
from physicsrunner.service.identity import Identity
from physicsrunner.service.standing import MAX_AGE_S, Accounts


class Persons:
    """Identities by name. Thread-safe."""

    def __init__(self, accounts: Accounts, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._now = now
        self._known: dict[str, tuple[int, float, Identity]] = {}

    def get(self, name: str, origin: str | None = None) -> Identity:
        """
        Return the person *name* as they stand now.

        Raises
        ------
        NotAuthenticated
            If there is no such person.
        NotAllowed
            If they are disabled.
        """
        found = self.recall(name, origin)
        if found is not None:
            return found
        generation, now = self._accounts.generation, self._now()
        read = self._accounts.read(lambda book: person(book, name))
        if read is None:
            raise NotAuthenticated(f"there is no user {name} here; the setting door_user names one")
        self._known[name] = generation, now, read
        return replace(read, origin=origin)

    def recall(self, name: str, origin: str | None = None) -> Identity | None:
        """Return the person *name* without waiting for the store; None: `get` says."""
        generation, read_at, found = self._known.get(name, (-1, 0.0, None))
        fresh = generation == self._accounts.generation and 0 <= self._now() - read_at <= MAX_AGE_S
        return replace(found, origin=origin) if fresh and found is not None else None

    def stands(self, name: str) -> bool:
        """Say whether there is such a person, and not disabled."""
        try:
            self.get(name)
        except (NotAuthenticated, NotAllowed):
            return False
        return True
