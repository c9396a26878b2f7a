"""
How a token stands: not revoked, its bearer not disabled, and what the bearer is a member of.

Promises: what this process changes counts at once, everywhere in it; what another process on the
same database changes counts after `MAX_AGE_S`. A token that is used often is not looked up often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from physicsrunner.store.accounts import AccountBook, AccountReader, AccountStore, TokenRow, UserRow
from physicsrunner.store.rows import Actor

T = TypeVar("T")

MAX_AGE_S: Final = 2.0
_MOST: Final = 10_000  # tokens remembered


@dataclass(frozen=True)
class Standing:
    """What the tables say of one token."""

    token: TokenRow
    user: UserRow | None = None
    projects: Mapping[str, str] = field(default_factory=dict)  #: project -> role
    read_at: float = 0.0


class Accounts:
    """The accounts of a store, with a memory of how tokens stand. Thread-safe."""

    def __init__(self, store: AccountStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, Standing] = {}
        self._generation = 0

    def read(self, work: Callable[[AccountReader], T]) -> T:
        """Do *work* on one state of the accounts and return its answer."""
        return self._store.read_accounts(work)

    def change(
        self,
        work: Callable[[AccountBook], T],
        *,
        by: Actor | None = None,
        forget: bool = True,
    ) -> T:
        """
        Do *work* in one transaction; from then on nobody is judged by what was before.

        With *forget* False nothing changes by which anybody is judged.
        """
        try:
            return self._store.change_accounts(work, by=by)
        finally:
            if forget:
                self.forget()

    @property
    def generation(self) -> int:
        """A number that is another one after every change of what anybody is judged by."""
        return self._generation

    def forget(self) -> None:
        """Look every token up again."""
        with self._lock:
            self._generation += 1
            self._known.clear()

    def known(self, token_id: str) -> Standing | None:
        """Return how a token stands if that is known without a look at the store."""
        found = self._known.get(token_id)
        if found is None or not 0 <= self._now() - found.read_at <= MAX_AGE_S:
            return None
        return found

    def standing(self, token_id: str) -> Standing | None:
        """Return how a token stands; None: there is no such token."""
        found = self.known(token_id)
        if found is not None:
            return found
        generation = self._generation
        now = self._now()
        found = self._store.read_accounts(lambda book: _look_up(book, token_id, now))
        if found is not None:
            with self._lock:
                # What was read before a change must not be remembered after it.
                if generation == self._generation:
                    if len(self._known) >= _MOST:
                        self._known.clear()
                    self._known[token_id] = found
        return found


def _look_up(book: AccountReader, token_id: str, now: float) -> Standing | None:
    token = book.token(token_id)
    if token is None:
        return None
    if token.kind != "user":
        return Standing(token, read_at=now)
    roles = {row.project_id: row.role for row in book.members(user=token.subject)}
    return Standing(token, book.user(token.subject), roles, now)
