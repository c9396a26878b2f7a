"""Accounts in memory. The promises are those of `store.accounts.AccountStore`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from physicsrunner.store.accounts import (
    AccountBook,
    AccountReader,
    MemberRow,
    ProjectRow,
    TokenRow,
    UserRow,
)
from physicsrunner.store.memory_events import MemoryEvents
from physicsrunner.store.rows import Actor
from physicsrunner.wire.live import Event

T = TypeVar("T")


@dataclass
class _Tables:
    users: dict[str, UserRow] = field(default_factory=dict)
    projects: dict[str, ProjectRow] = field(default_factory=dict)
    members: dict[tuple[str, str], MemberRow] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)

    def copy(self) -> _Tables:
        """Return tables of their own; the rows never change."""
        return _Tables(dict(self.users), dict(self.projects), dict(self.members), dict(self.tokens))


class MemoryAccounts(MemoryEvents):
    """Users, projects, members and tokens in dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self._accounts = _Tables()

    def change_accounts(self, work: Callable[[AccountBook], T], *, by: Actor | None = None) -> T:
        """Do *work* in one transaction and return its answer; undo it when it raises."""
        with self._lock:
            book = _Book(self._accounts.copy())
            answer = work(book)
            self._accounts = book.tables
            self._tell(book.events, by)
            return answer

    def read_accounts(self, work: Callable[[AccountReader], T]) -> T:
        """Do *work* on one state of the accounts and return its answer."""
        with self._lock:
            return work(_Book(self._accounts))

    def audit(
        self,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """Return events with an id over *after*, ascending, with who caused them."""
        with self._lock:
            found = [
                item
                for item in self._events
                if (item.id or 0) > after
                and actor in (None, item.actor)
                and (kind is None or _fits(kind, item.type))
            ]
        return copy.deepcopy(found[:limit])


class _Book:
    def __init__(self, tables: _Tables) -> None:
        self.tables = tables
        self.events: list[Event] = []

    def user(self, name: str) -> UserRow | None:
        return self.tables.users.get(name)

    def users(self) -> list[UserRow]:
        return sorted(self.tables.users.values(), key=lambda row: row.name)

    def project(self, project: str) -> ProjectRow | None:
        return self.tables.projects.get(project)

    def projects(self) -> list[ProjectRow]:
        return sorted(self.tables.projects.values(), key=lambda row: row.id)

    def members(self, *, project: str | None = None, user: str | None = None) -> list[MemberRow]:
        return [
            row
            for _, row in sorted(self.tables.members.items())
            if project in (None, row.project_id) and user in (None, row.user)
        ]

    def token(self, token: str) -> TokenRow | None:
        return self.tables.tokens.get(token)

    def tokens(self, subject: str | None = None, kind: str | None = None) -> list[TokenRow]:
        found = [
            row
            for row in self.tables.tokens.values()
            if subject in (None, row.subject) and kind in (None, row.kind)
        ]
        return sorted(found, key=lambda row: (-row.created_at, row.id))

    def put_user(self, row: UserRow) -> None:
        self.tables.users[row.name] = row

    def put_project(self, row: ProjectRow) -> None:
        self.tables.projects[row.id] = row

    def put_member(self, row: MemberRow) -> None:
        self.tables.members[row.project_id, row.user] = row

    def drop_member(self, project: str, user: str) -> bool:
        return self.tables.members.pop((project, user), None) is not None

    def put_token(self, row: TokenRow) -> None:
        self.tables.tokens[row.id] = row

    def tell(self, event: Event) -> None:
        self.events.append(event)


def _fits(pattern: str, kind: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern
