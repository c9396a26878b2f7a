"""
What a store promises of accounts: users, projects, members and tokens.

Promises:

- `change_accounts` does its work in one transaction: what it reads, decides and writes, and the
  events that it tells, are there together or not at all. Whoever works at the same time comes
  before or after.
- `read_accounts` sees one state throughout.
- No password and no token is kept: a password's argon2 hash, and a token's id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from physicsrunner.store.rows import Actor
from physicsrunner.wire.live import Event

T = TypeVar("T")


@dataclass(frozen=True)
class UserRow:
    """A person, or a program that acts like one."""

    name: str
    created_at: float
    password: str | None = None  #: argon2 hash; None: logs in by token alone
    role: str | None = None  #: for the whole server; None: only what projects give
    disabled: bool = False
    failures: int = 0  #: wrong passwords in a row
    locked_until: float | None = None
    last_login: float | None = None


@dataclass(frozen=True)
class ProjectRow:
    """What runs and models can belong to."""

    id: str
    name: str
    created_by: str
    created_at: float
    max_concurrent_runs: int | None = None


@dataclass(frozen=True)
class MemberRow:
    """A person's role in a project."""

    project_id: str
    user: str
    role: str


@dataclass(frozen=True)
class TokenRow:
    """What is kept of a token that was given out; never the token itself."""

    id: str  #: its ``jti``
    name: str
    kind: str  #: user, agent, enroll
    subject: str  #: whom it stands for; of an enroll token: the agent's name, or empty
    created_by: str
    created_at: float
    scopes: list[str] | None = None  #: permissions it is confined to; None: all of its bearer's
    project_id: str | None = None  #: the project it is confined to
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    last_used_from: str | None = None
    nonce: str | None = None  #: of whoever used up a one-time token


class AccountReader(Protocol):
    """The accounts as they are in one transaction."""

    def user(self, name: str) -> UserRow | None:
        """Return that user; None if there is none."""
        ...

    def users(self) -> list[UserRow]:
        """Return all users, sorted by name."""
        ...

    def project(self, project: str) -> ProjectRow | None:
        """Return that project; None if there is none."""
        ...

    def projects(self) -> list[ProjectRow]:
        """Return all projects, sorted by id."""
        ...

    def members(self, *, project: str | None = None, user: str | None = None) -> list[MemberRow]:
        """Return the members of *project*, the memberships of *user*, or those of both."""
        ...

    def token(self, token: str) -> TokenRow | None:
        """Return the token of that id; None if there is none."""
        ...

    def tokens(self, subject: str | None = None, kind: str | None = None) -> list[TokenRow]:
        """Return tokens (of *subject*, of *kind*), the newest first."""
        ...


class AccountBook(AccountReader, Protocol):
    """The accounts in one transaction that changes them. ``put`` adds or replaces."""

    def put_user(self, row: UserRow) -> None:
        """Keep a user."""
        ...

    def put_project(self, row: ProjectRow) -> None:
        """Keep a project."""
        ...

    def put_member(self, row: MemberRow) -> None:
        """Keep a membership."""
        ...

    def drop_member(self, project: str, user: str) -> bool:
        """Forget a membership; say whether there was one."""
        ...

    def put_token(self, row: TokenRow) -> None:
        """Keep a token."""
        ...

    def tell(self, event: Event) -> None:
        """Write an event in this transaction."""
        ...


class AccountStore(Protocol):
    """Users, projects, members and tokens."""

    def change_accounts(self, work: Callable[[AccountBook], T], *, by: Actor | None = None) -> T:
        """Do *work* in one transaction and return its answer; undo it when it raises."""
        ...

    def read_accounts(self, work: Callable[[AccountReader], T]) -> T:
        """Do *work* on one state of the accounts and return its answer."""
        ...

    def audit(
        self,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """
        Return events with an id over *after*, ascending, with who caused them and from where.

        Of *actor* alone, and of the type *kind*, or of all that begin so where it ends with ``*``.
        """
        ...
