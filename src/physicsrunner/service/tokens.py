"""
Tokens that are kept a record of: people's, agents', and those that enroll an agent.

Promises: a token's text is given out once and never stored; its record can be listed, expires and
can be revoked; a one-time token enrolls one agent, and asking again with the same nonce after a
lost answer gives the same one. Every change writes its event in its transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from physicsrunner.core.permissions import ROLES, Scope
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from physicsrunner.service.confined import confined, is_confined
from physicsrunner.service.identity import Identity
from physicsrunner.service.names import agent_name, title_of, user_name
from physicsrunner.service.standing import Accounts
from physicsrunner.store.accounts import AccountBook, AccountReader, TokenRow, UserRow
from physicsrunner.store.rows import Actor
from physicsrunner.wire import live, tokens
from physicsrunner.wire.live import Event

ENROLL_S: Final = 3600.0
LONGEST_S: Final = 10 * 365 * 86_400.0
_SERVER: Final = "server"  # who made what nobody asked for


@dataclass(frozen=True)
class Issued:
    """A token that was just made. Its text is nowhere else."""

    id: str
    name: str
    token: str
    expires: float | None = None


class TokenBook:
    """The tokens of one server. Thread-safe."""

    def __init__(self, accounts: Accounts, key: str, *, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._key = key
        self._now = now

    # -- people ----------------------------------------------------------------------------------

    def user_token(self, name: str, role: str, *, lifetime_s: float | None = None) -> str:
        """
        Return a token of the person *name*, who is made with *role* if there is none yet.

        For the server itself and for tests: nobody's permission is asked. *lifetime_s* None: it
        does not expire.
        """
        if role not in ROLES:
            raise InvalidRequest(f"role {role!r}: the roles are {', '.join(ROLES)}")
        row = self._row("user", name, "made by the server", _SERVER, lifetime_s)

        def work(book: AccountBook) -> None:
            if book.user(name) is None:
                book.put_user(UserRow(name, row.created_at, role=role))
                book.tell(account_event(live.USER_CREATED, row.created_at, user=name, role=role))
            _keep(book, row)

        self._accounts.change(work)
        return self._text(row)

    def create(
        self,
        identity: Identity,
        name: str,
        *,
        user: str | None = None,
        scopes: Sequence[str] | None = None,
        project: str | None = None,
        lifetime_s: float | None = None,
    ) -> Issued:
        """
        Return a new token of the caller, or of *user* where the caller may make those.

        It can be confined to permissions (*scopes*) and to a *project*. A token that is confined
        itself gives no more than it has.
        """
        subject = user_name(user) if user is not None else identity.subject
        scope = identity.scope("tokens:create")
        if identity.kind != "user" or not _reaches(scope, identity, subject):
            raise NotAllowed(f"{identity} may not make tokens of {subject}")
        wanted = confined(identity, scopes, project)
        row = self._row("user", subject, title_of(name), identity.subject, lifetime_s)
        row = replace(row, scopes=wanted[0], project_id=wanted[1])
        known = identity.role is not None or wanted[1] in (None, *identity.projects)
        if not known:  # whether there is such a project they are not told
            raise NotFound(f"there is no project {wanted[1]}")
        limit = identity.expires if is_confined(identity) else None
        if limit is not None:
            row = replace(row, expires_at=min(limit, row.expires_at or limit))

        def work(book: AccountBook) -> None:
            if book.user(subject) is None:
                raise NotFound(f"there is no user {subject}")
            if row.project_id is not None and book.project(row.project_id) is None:
                raise NotFound(f"there is no project {row.project_id}")
            _keep(book, row)

        self._accounts.change(work, by=identity.actor)
        return Issued(row.id, row.name, self._text(row), row.expires_at)

    def login_token(self, book: AccountBook, user: str, lifetime_s: float) -> Issued:
        """Return a token for somebody who has just shown the password, kept in *book*."""
        row = self._row("user", user, "login", user, lifetime_s)
        _keep(book, row)
        return Issued(row.id, row.name, self._text(row, book), row.expires_at)

    def refresh(self, identity: Identity, lifetime_s: float | None = None) -> Issued:
        """
        Return a fresh token in place of the caller's, with the same limits and the same lifetime.

        *lifetime_s* makes it a shorter one. The old one stays good until it expires: the answer
        may be lost.
        """
        if identity.scope("self:refresh") is Scope.NONE or identity.token is None:
            raise NotAllowed(f"{identity} has nothing to refresh")
        now = self._now()

        def work(book: AccountBook) -> TokenRow:
            old = book.token(identity.token or "")
            if old is None or old.revoked_at is not None:
                raise NotAuthenticated("the token was revoked")
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            if lifetime_s is not None:
                lifetime = lifetime_s if lifetime is None else min(lifetime, lifetime_s)
            row = replace(
                old,
                id=uuid.uuid4().hex,
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
                last_used_at=None,
                last_used_from=None,
            )
            _keep(book, row)
            return row

        row = self._accounts.change(work, by=identity.actor)
        return Issued(row.id, row.name, self._text(row), row.expires_at)

    def list(self, identity: Identity, user: str | None = None) -> Rows:
        """Return the tokens that are neither revoked nor expired, of *user* or all one may see."""
        scope = identity.scope("tokens:read")
        if scope is Scope.NONE:
            raise NotAllowed(f"{identity} has no permission tokens:read")
        if scope is not Scope.ANY:
            if user not in (None, identity.subject):
                raise NotAllowed(f"{identity} sees no tokens of {user}")
            user = identity.subject
        now = self._now()
        rows = self._accounts.read(lambda book: book.tokens(user))
        mine = [row for row in rows if scope is Scope.ANY or row.kind == "user"]
        return [row for row in mine if _alive(row, now)]

    def revoke(self, identity: Identity, token_id: str) -> TokenRow:
        """Take a token back at once; again is success. `NotFound` where it is not the caller's."""
        now = self._now()

        def work(book: AccountBook) -> TokenRow:
            row = book.token(token_id)
            if row is None or not self._may_revoke(identity, row):
                raise NotFound(f"there is no token {token_id}")
            return _revoke(book, row, now)

        return self._accounts.change(work, by=identity.actor)

    def used(self, token_id: str, now: float, origin: str | None) -> None:
        """Keep when and from where a token was last used."""

        def work(book: AccountBook) -> None:
            row = book.token(token_id)
            if row is not None:
                book.put_token(replace(row, last_used_at=now, last_used_from=(origin or "")[:64]))

        self._accounts.change(work, forget=False)

    # -- agents ----------------------------------------------------------------------------------

    def agent_token(self, agent: str, *, lifetime_s: float | None = None) -> str:
        """Return a token for an agent of that name. For the server itself and for tests."""
        row = self._row("agent", agent_name(agent), "agent", _SERVER, lifetime_s)
        self._accounts.change(lambda book: _keep(book, row))
        return self._text(row)

    def issue_enroll_token(
        self, identity: Identity, name: str | None = None, lifetime_s: float = ENROLL_S
    ) -> Issued:
        """
        Return a one-time token with which an agent can join.

        *name* binds it to an agent of that name, which may have been there before. Without, it is
        good for any name that no agent has.
        """
        if identity.scope("agents:enroll") is Scope.NONE:
            raise NotAllowed(f"{identity} has no permission agents:enroll")
        bound = agent_name(name) if name else ""
        row = self._row("enroll", bound, "enroll", identity.subject, lifetime_s)
        self._accounts.change(lambda book: _keep(book, row), by=identity.actor)
        return Issued(row.id, row.name, self._text(row), row.expires_at)

    def use_enroll_token(
        self, identity: Identity, name: str, nonce: str, *, known: bool = False
    ) -> str:
        """
        Return the token of agent *name*, which joins with the one-time token of *identity*.

        The same *nonce* gets the same token again. Older tokens of that agent are revoked. *known*:
        runs or an agent of that name are there: it would be let at them, so a token that was made
        for no name in particular is not enough.

        Raises
        ------
        NotAllowed
            If the token is used up, or is for another name.
        Conflict
            If an agent of that name is there and the token was not made for it.
        """
        if identity.kind != "enroll" or identity.token is None:
            raise NotAllowed("an agent joins with a one-time token: physicsrunner agents enroll")
        agent, nonce = agent_name(name), _nonce(nonce)
        one_time, now = identity.token, self._now()

        def work(book: AccountBook) -> TokenRow:
            ticket = book.token(one_time)
            if ticket is None or not _alive(ticket, now):
                raise NotAuthenticated("the one-time token is no longer good")
            if ticket.subject not in ("", agent):
                raise NotAllowed(f"the one-time token is for agent {ticket.subject}")
            joined = uuid.uuid5(uuid.UUID(ticket.id), nonce).hex
            if ticket.nonce is not None:
                given = book.token(joined) if ticket.nonce == nonce else None
                if given is None or given.revoked_at is not None or given.subject != agent:
                    raise NotAllowed("the one-time token has been used")
                return given
            present = [row for row in book.tokens(agent, "agent") if _alive(row, now)]
            if (present or known) and not ticket.subject:
                raise Conflict(f"there is an agent {agent} already; make a token for that name")
            for row in present:
                _revoke(book, row, now)
            book.put_token(replace(ticket, nonce=nonce, subject=agent, last_used_at=now))
            row = TokenRow(joined, "agent", "agent", agent, ticket.created_by, now)
            _keep(book, row)
            book.tell(account_event(live.AGENT_JOINED, now, agent=agent))
            return row

        by = Actor(f"agent:{agent}", identity.origin)
        return self._text(self._accounts.change(work, by=by))

    def revoke_agent(self, identity: Identity, agent: str) -> None:
        """Take back all tokens of an agent that was removed."""
        now = self._now()

        def work(book: AccountBook) -> None:
            for kind in ("agent", "enroll"):
                for row in book.tokens(agent, kind):
                    if _alive(row, now):
                        _revoke(book, row, now)

        self._accounts.change(work, by=identity.actor)

    # -- inside ----------------------------------------------------------------------------------

    def adopt(self, text: str) -> None:
        """Keep the record of a token that lies in a file of the data folder (`admin.token`)."""
        try:
            claims = tokens.verify(self._key, text, now=self._now())
        except NotAuthenticated:
            return  # of another key, or expired: it will be refused
        if claims.kind != "user" or claims.token_id is None:
            return
        made = TokenRow(
            id=claims.token_id,
            name="admin.token",
            kind="user",
            subject=claims.subject,
            created_by=_SERVER,
            created_at=claims.issued,
            expires_at=claims.expires,
        )

        def work(book: AccountBook) -> None:
            if book.user(made.subject) is None:
                book.put_user(UserRow(made.subject, self._now(), role=claims.role))
            if book.token(made.id) is None:
                book.put_token(made)

        self._accounts.change(work)

    def _may_revoke(self, identity: Identity, row: TokenRow) -> bool:
        scope = identity.scope("tokens:revoke")
        if scope is Scope.ANY:
            return True
        if row.id == identity.token:
            return identity.scope("self:logout") is not Scope.NONE
        return row.kind == "user" and _reaches(scope, identity, row.subject)

    def _row(
        self, kind: str, subject: str, name: str, by: str, lifetime_s: float | None
    ) -> TokenRow:
        if lifetime_s is not None and not 0 < lifetime_s <= LONGEST_S:
            raise InvalidRequest("a token's lifetime is over 0 and at most ten years")
        now = self._now()
        expires = None if lifetime_s is None else now + lifetime_s
        return TokenRow(uuid.uuid4().hex, name, kind, subject, by, now, expires_at=expires)

    def _text(self, row: TokenRow, book: AccountReader | None = None) -> str:
        if book is None:
            return self._accounts.read(lambda now: self._text(row, now))
        user = book.user(row.subject)
        claims = tokens.Claims(
            kind=row.kind,
            subject=row.subject if row.kind != "enroll" else "",
            issued=row.created_at,
            expires=row.expires_at,
            role=user.role if user is not None and row.kind == "user" else None,
            token_id=row.id,
            scopes=row.scopes,
            project=row.project_id,
        )
        return tokens.issue(self._key, claims)


Rows = list[TokenRow]  # inside the class, `list` is the method


def account_event(kind: str, now: float, /, *, project: str | None = None, **data: Any) -> Event:
    """Return an event of an account; values that are None are left out."""
    said = {name: value for name, value in data.items() if value is not None}
    return Event(type=kind, run=None, attempt=None, project=project, time=now, data=said)


def _keep(book: AccountBook, row: TokenRow) -> None:
    book.put_token(row)
    book.tell(
        account_event(
            live.TOKEN_CREATED,
            row.created_at,
            token=row.id,
            kind=row.kind,
            name=row.name,
            subject=row.subject,
            scopes=row.scopes,
            confined_to=row.project_id,
            expires=row.expires_at,
        )
    )


def _revoke(book: AccountBook, row: TokenRow, now: float) -> TokenRow:
    if row.revoked_at is not None:
        return row
    revoked = replace(row, revoked_at=now)
    book.put_token(revoked)
    data = {"token": row.id, "kind": row.kind, "name": row.name, "subject": row.subject}
    book.tell(account_event(live.TOKEN_REVOKED, now, **data))
    return revoked


def revoke_all(
    book: AccountBook, user: str, now: float, *, named: str, but: str | None = None
) -> None:
    """Revoke the tokens of a person that are *named* so, apart from the one of the id *but*."""
    for row in book.tokens(user, "user"):
        if row.name == named and row.id != but and _alive(row, now):
            _revoke(book, row, now)


def _alive(row: TokenRow, now: float) -> bool:
    return row.revoked_at is None and (row.expires_at is None or now <= row.expires_at)


def _reaches(scope: Scope, identity: Identity, subject: str) -> bool:
    return scope is Scope.ANY or (scope is Scope.OWN and identity.subject == subject)


def _nonce(text: str) -> str:
    if not 8 <= len(text) <= 64 or not text.isascii() or not text.isprintable():
        raise InvalidRequest("nonce is 8 to 64 printable characters that the agent made up")
    return text
