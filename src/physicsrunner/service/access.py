"""
Who somebody is and what they may do.

Promises: a token is verified before anything of it is believed; what `core.permissions` does not
grant raises `NotAllowed`; a run that the caller may not see is `NotFound` only where it does not
exist. Secrets are made at the first start, readable by their owner alone, and never logged.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.permissions import ROLES, Scope, scope_of
from physicsrunner.core.run import RunSummary
from physicsrunner.errors import InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from physicsrunner.store.base import RunStore
from physicsrunner.wire import tokens

KEY_FILE: Final = "secret.key"
ADMIN_FILE: Final = "admin.token"


@dataclass(frozen=True)
class Identity:
    """The bearer of a token that was verified."""

    kind: str  #: user, agent or attempt
    subject: str  #: the user's name, or the agent's id
    role: str | None = None  #: of a user
    run: str | None = None  #: of an attempt's token
    attempt: int | None = None
    issued: float = 0.0  #: POSIX seconds
    expires: float | None = None


class AccessService:
    """Tokens and permissions. Thread-safe."""

    def __init__(
        self, store: RunStore, key: str, *, now: Callable[[], float], terms: LeaseTerms
    ) -> None:
        self._store = store
        self._key = key
        self._now = now
        self._terms = terms

    def authenticate(self, token: str | None) -> Identity:
        """Return who bears *token*; raise `NotAuthenticated` or `TokenExpired`."""
        if not token:
            raise NotAuthenticated("there is no token; send Authorization: Bearer <token>")
        return _identity(tokens.verify(self._key, token, now=self._now()))

    def exchange(self, token: str) -> str:
        """
        Return a fresh token for an attempt's token that expired at most 30 days ago.

        Late results must still arrive. The fresh one names the same attempt and agent and gives no
        more: a lease that was lost stays lost.
        """
        claims = tokens.verify(self._key, token, now=self._now(), allow_expired_s=tokens.EXCHANGE_S)
        if claims.kind != "attempt" or claims.run is None or claims.attempt is None:
            raise NotAllowed("only an attempt's token can be exchanged; log in again")
        if self._store.attempt(claims.run, claims.attempt) is None:
            raise NotFound(f"there is no attempt {claims.attempt} of run {claims.run}")
        return self.attempt_token(claims.run, claims.attempt, claims.subject)

    def attempt_token(self, run: str, attempt: int, agent: str) -> str:
        """Return a token that can touch one attempt of one run, as *agent*."""
        now = self._now()
        return tokens.issue(
            self._key,
            tokens.Claims(
                kind="attempt",
                subject=agent,
                issued=now,
                expires=now + self._terms.token_s,
                run=run,
                attempt=attempt,
            ),
        )

    def user_token(self, name: str, role: str, *, lifetime_s: float | None = None) -> str:
        """Return a person's token with *role*; *lifetime_s* None: it does not expire."""
        if role not in ROLES:
            raise InvalidRequest(f"role {role!r}: the roles are {', '.join(ROLES)}")
        now = self._now()
        expires = None if lifetime_s is None else now + lifetime_s
        return tokens.issue(
            self._key,
            tokens.Claims("user", name, now, expires=expires, role=role, token_id=uuid.uuid4().hex),
        )

    def agent_token(self, agent: str, *, lifetime_s: float | None = None) -> str:
        """Return a token for an agent of that id."""
        now = self._now()
        expires = None if lifetime_s is None else now + lifetime_s
        return tokens.issue(
            self._key,
            tokens.Claims("agent", agent, now, expires=expires, token_id=uuid.uuid4().hex),
        )

    def require(self, identity: Identity, permission: str, run: str | None = None) -> None:
        """
        Raise `NotAllowed` unless *identity* has *permission*, for *run* where one is named.

        Without *run*, having it for one's own runs is enough: the caller then shows no others.
        """
        scope = scope_of(identity.kind, identity.role, permission)
        if scope is Scope.ANY or (scope is Scope.OWN and run is None):
            return
        if scope is Scope.NONE or run is None or not self._owns(identity, run):
            what = f" for run {run}" if run else ""
            raise NotAllowed(f"{_describe(identity)} has no permission {permission}{what}")

    def scope(self, identity: Identity, permission: str) -> Scope:
        """Return for which runs *identity* has *permission*."""
        return scope_of(identity.kind, identity.role, permission)

    def holder(self, identity: Identity, run: str, attempt: int, permission: str) -> str:
        """
        Return the name of the agent as whom *identity* may write to *attempt* of *run*.

        Raises
        ------
        NotFound
            If there is no such attempt.
        NotAllowed
            If it is not the caller's: an attempt's token for another attempt, an agent that never
            had it, a person who neither created the run nor may write to all.
        """
        if identity.kind == "attempt":
            if (identity.run, identity.attempt) != (run, attempt):
                raise NotAllowed(f"the token is not for attempt {attempt} of run {run}")
        elif identity.kind == "user":
            self.require(identity, permission, run)
        record = self._store.attempt(run, attempt)
        if record is None:
            raise NotFound(f"there is no attempt {attempt} of run {run}")
        if identity.kind == "user":
            return record.agent
        if identity.kind == "agent" and record.agent != identity.subject:
            raise NotAllowed(f"agent {identity.subject} never had attempt {attempt} of run {run}")
        return identity.subject

    def _owns(self, identity: Identity, run: str) -> bool:
        if identity.kind == "attempt":
            return identity.run == run
        if identity.kind == "agent":
            return any(item.agent == identity.subject for item in self._store.attempts(run))
        summary = self._store.summary(run)
        return summary is not None and is_creator(identity, summary)


def is_creator(identity: Identity, run: RunSummary) -> bool:
    """Say whether *identity* is the person who created *run*."""
    return identity.kind == "user" and run.created_by == identity.subject


def _identity(claims: tokens.Claims) -> Identity:
    return Identity(
        kind=claims.kind,
        subject=claims.subject,
        role=claims.role,
        run=claims.run,
        attempt=claims.attempt,
        issued=claims.issued,
        expires=claims.expires,
    )


def _describe(identity: Identity) -> str:
    if identity.kind == "attempt":
        return f"the token of attempt {identity.attempt} of run {identity.run}"
    role = f" ({identity.role})" if identity.role else ""
    return f"{identity.kind} {identity.subject}{role}"


def load_secret(data: Path) -> str:
    """Return the server's signing key; make it at the first start, mode 0600."""
    path = data / KEY_FILE
    write_private(path, secrets.token_hex(32), replace=False)
    key = path.read_text().strip()
    if len(key) < 32:
        raise InvalidRequest(f"{path} holds no key; restore it, or remove it to make a new one")
    return key


def write_private(path: Path, text: str, *, replace: bool) -> bool:
    """
    Write a file that only its owner can read; say whether it was written.

    It appears whole or not at all, also when two processes start at once; without *replace* a file
    that is there stays.
    """
    if path.exists() and not replace:
        return False
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            part.replace(path)
            return True
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        return True
    finally:
        part.unlink(missing_ok=True)
