"""Accounts in SQL. The promises are those of `store.accounts.AccountStore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, select, update

from physicsrunner.store import schema
from physicsrunner.store.accounts import (
    AccountBook,
    AccountReader,
    MemberRow,
    ProjectRow,
    TokenRow,
    UserRow,
)
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_events import SqlEvents, Transaction, event_of
from physicsrunner.wire.live import Event

T = TypeVar("T")

_EVENTS: Final = schema.events.c
_USERS: Final = schema.users.c
_PROJECTS: Final = schema.projects.c
_MEMBERS: Final = schema.members.c
_TOKENS: Final = schema.tokens.c


class SqlAccounts(SqlEvents):
    """The tables of users, projects, members and tokens."""

    def change_accounts(self, work: Callable[[AccountBook], T], *, by: Actor | None = None) -> T:
        """Do *work* in one transaction and return its answer; undo it when it raises."""

        def within(transaction: Transaction) -> T:
            book = _Book(transaction.connection)
            answer = work(book)
            transaction.write_events(book.events)
            return answer

        return self._write(within, by)

    def read_accounts(self, work: Callable[[AccountReader], T]) -> T:
        """Do *work* on one state of the accounts and return its answer."""
        with self._db.read() as connection:
            return work(_Book(connection))

    def audit(
        self,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """Return events with an id over *after*, ascending, with who caused them."""
        query = select(schema.events).where(_EVENTS.id > after).order_by(_EVENTS.id).limit(limit)
        if actor is not None:
            query = query.where(_EVENTS.actor == actor)
        if kind is not None and kind.endswith("*"):
            query = query.where(_EVENTS.type.startswith(kind[:-1], autoescape=True))
        elif kind is not None:
            query = query.where(_EVENTS.type == kind)
        with self._db.read() as connection:
            return [event_of(row) for row in connection.execute(query)]


class _Book:
    """The accounts, as one transaction sees and changes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []

    # -- reading ---------------------------------------------------------------------------------

    def user(self, name: str) -> UserRow | None:
        row = self._one(schema.users, _USERS.name == name)
        return None if row is None else UserRow(**row)

    def users(self) -> list[UserRow]:
        query = select(schema.users).order_by(_USERS.name)
        return [UserRow(**row) for row in self._connection.execute(query).mappings()]

    def project(self, project: str) -> ProjectRow | None:
        row = self._one(schema.projects, _PROJECTS.id == project)
        return None if row is None else ProjectRow(**row)

    def projects(self) -> list[ProjectRow]:
        query = select(schema.projects).order_by(_PROJECTS.id)
        return [ProjectRow(**row) for row in self._connection.execute(query).mappings()]

    def members(self, *, project: str | None = None, user: str | None = None) -> list[MemberRow]:
        query = select(schema.members).order_by(_MEMBERS.project_id, _MEMBERS.user)
        if project is not None:
            query = query.where(_MEMBERS.project_id == project)
        if user is not None:
            query = query.where(_MEMBERS.user == user)
        return [MemberRow(**row) for row in self._connection.execute(query).mappings()]

    def token(self, token: str) -> TokenRow | None:
        row = self._one(schema.tokens, _TOKENS.id == token)
        return None if row is None else TokenRow(**row)

    def tokens(self, subject: str | None = None, kind: str | None = None) -> list[TokenRow]:
        query = select(schema.tokens).order_by(_TOKENS.created_at.desc(), _TOKENS.id)
        if subject is not None:
            query = query.where(_TOKENS.subject == subject)
        if kind is not None:
            query = query.where(_TOKENS.kind == kind)
        return [TokenRow(**row) for row in self._connection.execute(query).mappings()]

    # -- changing --------------------------------------------------------------------------------

    def put_user(self, row: UserRow) -> None:
        self._put(schema.users, _USERS.name == row.name, asdict(row))

    def put_project(self, row: ProjectRow) -> None:
        self._put(schema.projects, _PROJECTS.id == row.id, asdict(row))

    def put_member(self, row: MemberRow) -> None:
        self._put(schema.members, _member(row.project_id, row.user), asdict(row))

    def drop_member(self, project: str, user: str) -> bool:
        gone = self._connection.execute(delete(schema.members).where(_member(project, user)))
        return bool(gone.rowcount)

    def put_token(self, row: TokenRow) -> None:
        self._put(schema.tokens, _TOKENS.id == row.id, asdict(row))

    def tell(self, event: Event) -> None:
        self.events.append(event)

    # -- inside ----------------------------------------------------------------------------------

    def _one(self, table: Table, which: ColumnElement[bool]) -> Mapping[Any, Any] | None:
        return self._connection.execute(select(table).where(which)).mappings().first()

    def _put(self, table: Table, which: ColumnElement[bool], values: Mapping[str, Any]) -> None:
        known = self._connection.execute(update(table).where(which).values(**values))
        if known.rowcount == 0:
            self._connection.execute(insert(table), values)


def _member(project: str, user: str) -> ColumnElement[bool]:
    return and_(_MEMBERS.project_id == project, _MEMBERS.user == user)
