"""
From a verified token and what the tables say of it to an `Identity`.

Promises: nothing is judged here; the one refusal is that of a person who is disabled.
"""

from __future__ import annotations

from dataclasses import replace

from physicsrunner.errors import NotAllowed
from physicsrunner.service.identity import Identity
from physicsrunner.service.standing import Standing
from physicsrunner.store.accounts import AccountReader
from physicsrunner.wire import tokens


def person(book: AccountReader, name: str) -> Identity | None:
    """Return what the person *name* may do now, whatever token they use; None: there is none."""
    row = book.user(name)
    if row is None:
        return None
    if row.disabled:
        raise NotAllowed(f"user {name} is disabled")
    roles = {member.project_id: member.role for member in book.members(user=name)}
    return Identity("user", name, row.role, projects=roles)


def identity_of(claims: tokens.Claims, standing: Standing | None, origin: str | None) -> Identity:
    found = Identity(
        kind=claims.kind,
        subject=claims.subject,
        run=claims.run,
        attempt=claims.attempt,
        issued=claims.issued,
        expires=claims.expires,
        origin=origin,
        token=claims.token_id,
    )
    return found if standing is None else standing_of(found, standing)


def standing_of(identity: Identity, standing: Standing) -> Identity:
    row = standing.token
    return replace(
        identity,
        role=None if standing.user is None else standing.user.role,
        scopes=None if row.scopes is None else frozenset(row.scopes),
        project=row.project_id,
        projects=standing.projects,
    )
