"""
Who somebody is and what they may do.

Promises: a token is verified, and neither revoked nor its bearer disabled, before anything of it is
believed; what `core.permissions` does not grant raises `NotAllowed`; a run that the caller may not
read is `NotFound`, as if it did not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import RunFilter, RunSummary
from physicsrunner.errors import (
    AgentRefused,
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    TokenExpired,
)
from physicsrunner.service.bearers import identity_of, person, standing_of
from physicsrunner.service.identity import Identity as Identity
from physicsrunner.service.names import project_id
from physicsrunner.service.persons import Persons
from physicsrunner.service.presence import REMOVED
from physicsrunner.service.secrets import load_secret as load_secret
from physicsrunner.service.secrets import write_private as write_private
from physicsrunner.service.standing import Accounts, Standing
from physicsrunner.service.tokens import TokenBook
from physicsrunner.store.base import Store
from physicsrunner.wire import tokens

ADMIN_FILE: Final = "admin.token"
USE_EVERY_S: Final = 60.0  # a token's last use is written at most so often
_MOST: Final = 10_000  # tokens whose signature is remembered

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Visible:
    """Which things a list may show: those of `projects`, and those of no project by `creator`."""

    projects: list[str]
    creator: str | None = None


class AccessService:
    """Tokens and permissions. Thread-safe."""

    def __init__(
        self, store: Store, key: str, *, now: Callable[[], float], terms: LeaseTerms
    ) -> None:
        self._store = store
        self.accounts = self._accounts = accounts = Accounts(store, now)
        self._key = key
        self._now = now
        self._terms = terms
        self._verified: dict[str, tokens.Claims] = {}
        self._used: dict[str, float] = {}
        self.persons = Persons(accounts, now)
        self.tokens = TokenBook(accounts, key, now=now)
        self.user_token = self.tokens.user_token
        self.agent_token = self.tokens.agent_token
        self.issue_enroll_token = self.tokens.issue_enroll_token
        self.use_enroll_token = self.tokens.use_enroll_token
        self.revoke_agent = self.tokens.revoke_agent

    # -- who ---------------------------------------------------------------------------------

    def authenticate(self, token: str | None, origin: str | None = None) -> Identity:
        """
        Return who bears *token*; raise `NotAuthenticated` or `TokenExpired`.

        *origin* is the network address of the caller, for the audit.
        """
        claims = self._claims(token)
        if claims.token_id is None or claims.kind == "attempt":
            return identity_of(claims, None, origin)
        standing = self._accounts.standing(claims.token_id)
        found = identity_of(claims, self._judged(standing), origin)
        self._note_use(claims.token_id, standing, origin)
        return found

    def recall(self, token: str | None, origin: str | None = None) -> Identity | None:
        """Return who bears *token* without waiting for the store; None: `authenticate` says."""
        claims = self._claims(token)
        if claims.token_id is None or claims.kind == "attempt":
            return identity_of(claims, None, origin)
        standing = self._accounts.known(claims.token_id)
        known = standing is not None and standing.token.revoked_at is None
        if not known or self._use_is_due(claims.token_id):
            return None
        return identity_of(claims, self._judged(standing), origin)

    def still_good(self, identity: Identity) -> bool:
        """Say whether the token of *identity* would still be taken: for open connections."""
        if identity.expires is not None and self._now() > identity.expires:
            return False
        if identity.token is None:
            return identity.kind != "user" or self.persons.stands(identity.subject)
        try:
            self._judged(self._accounts.standing(identity.token))
        except NotAuthenticated:
            return False
        return True

    def refreshed(self, identity: Identity) -> Identity:
        """Return *identity* with the role, projects and limits that its token has now."""
        if identity.token is None:
            person = identity.kind == "user"
            return self.persons.get(identity.subject, identity.origin) if person else identity
        return standing_of(identity, self._judged(self._accounts.standing(identity.token)))

    def present(self, identity: Identity) -> Identity:
        """
        Return *identity* as it is now: for who has waited for an answer since it was authenticated.

        Raises `NotAuthenticated` when its token has expired or was revoked meanwhile.
        """
        if not self.still_good(identity):
            raise NotAuthenticated("the token has expired or was revoked")
        return self.refreshed(identity)

    def _claims(self, token: str | None) -> tokens.Claims:
        if not token:
            raise NotAuthenticated("there is no token; send Authorization: Bearer <token>")
        claims = self._verified.get(token)
        if claims is None:
            claims = tokens.verify(self._key, token, now=self._now())
            if claims.kind != "attempt" and claims.token_id is None:
                raise NotAuthenticated("the token has no id")
            if len(self._verified) >= _MOST:
                self._verified.clear()
            self._verified[token] = claims
        elif claims.expires is not None and self._now() > claims.expires:
            raise TokenExpired("the token has expired")
        return claims

    def _judged(self, standing: Standing | None) -> Standing:
        if standing is None:
            raise NotAuthenticated("the token is not known here; log in again")
        row = standing.token
        if row.revoked_at is not None:
            agent = self._store.agent(row.subject) if row.kind == "agent" else None
            if agent is not None and agent.state == REMOVED:  # for good: it ends its programs
                raise AgentRefused(f"agent {row.subject} was removed")
            raise NotAuthenticated("the token was revoked")
        if row.expires_at is not None and self._now() > row.expires_at:
            raise TokenExpired("the token has expired")
        if row.kind == "user" and (standing.user is None or standing.user.disabled):
            raise NotAuthenticated(f"user {row.subject} is disabled")
        return standing

    def _use_is_due(self, token_id: str) -> bool:
        return not 0 <= self._now() - self._used.get(token_id, -1e18) < USE_EVERY_S

    def _note_use(self, token_id: str, standing: Standing | None, origin: str | None) -> None:
        if standing is None or not self._use_is_due(token_id):
            return
        if len(self._used) >= _MOST:
            self._used.clear()
        now = self._now()
        self._used[token_id] = now
        last = standing.token.last_used_at
        if last is not None and 0 <= now - last < USE_EVERY_S:
            return
        try:
            self.tokens.used(token_id, now, origin)
        except PhysicsRunnerError as error:
            # A full disk must not keep people from reading what they have.
            _LOG.warning("the last use of a token was not written: %s", error)

    # -- an attempt's token ----------------------------------------------------------------------

    def exchange(self, token: str) -> str:
        """
        Return a fresh token for an attempt's token that expired at most 30 days ago.

        Late results must still arrive. The fresh one names the same attempt and agent and gives no
        more: a lease that was lost stays lost.
        """
        claims = tokens.verify(self._key, token, now=self._now(), allow_expired_s=tokens.EXCHANGE_S)
        if claims.kind != "attempt" or claims.run is None or claims.attempt is None:
            raise NotAllowed("only an attempt's token can be exchanged; log in again")
        run = self._store.summary(claims.run)
        if run is None or self._store.attempt(claims.run, claims.attempt) is None:
            raise NotFound(f"there is no attempt {claims.attempt} of run {claims.run}")
        self.require_carrier(run)
        return self.attempt_token(claims.run, claims.attempt, claims.subject)

    def _is_claimed(self, run: str) -> bool:
        found = self._store.summary(run)
        return found is not None and found.claimed

    def require_carrier(self, run: RunSummary) -> None:
        """
        Raise `NotAllowed` where who carries out *run* themselves may do so no more.

        Its attempt's token stands for that person: it gets no fresh one, and keeps no lease, when
        they were disabled or have lost the right to claim runs of that project.
        """
        if not run.claimed:
            return
        who = self._accounts.read(lambda book: person(book, run.created_by))
        if who is not None:
            self.require_in(who, "runs:claim", run.project_id)

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

    # -- what they may ---------------------------------------------------------------------------

    def require(
        self,
        identity: Identity,
        permission: str,
        run: str | RunSummary | None = None,
        *,
        asked: str | int | None = None,
    ) -> None:
        """
        Raise unless *identity* has *permission*, for *run* where one is given.

        Without *run*, having it for some runs is enough: the caller then shows no others. *asked*
        is how the caller named it: a number must not be answered by the id that belongs to it.

        Raises
        ------
        NotFound
            If the caller may not even read that run, or there is none.
        NotAllowed
            Otherwise.
        """
        if run is None:
            if identity.scope(permission) is Scope.NONE:
                raise NotAllowed(f"{identity} has no permission {permission}")
            return
        if identity.scope(permission) is Scope.ANY and isinstance(run, str):
            return  # whether there is such a run, whoever asks for it will see
        summary = self._store.summary(run) if isinstance(run, str) else run
        if summary is None or not self.may(identity, "runs:read", summary):
            named = run if isinstance(run, str) else run.id
            raise NotFound(f"there is no run {named if asked is None else asked}")
        if not self.may(identity, permission, summary):
            raise NotAllowed(f"{identity} has no permission {permission} for run {summary.id}")

    def require_creator(self, identity: Identity, run: RunSummary) -> None:
        """
        Raise unless *identity* created *run*, whose id it has given to a run of its own.

        Raises
        ------
        NotAllowed
            If it may read that run.
        Conflict
            If not: what has that id it is not told.
        """
        if is_creator(identity, run):
            return
        if self.may(identity, "runs:read", run):
            raise NotAllowed(f"run {run.id} was created by somebody else")
        raise Conflict(f"the id {run.id} cannot be used; make up another one")

    def require_in(self, identity: Identity, permission: str, project: str | None) -> None:
        """Raise `NotAllowed` unless *identity* has *permission* for new things in *project*."""
        if identity.scope_in(permission, project) is Scope.NONE:
            where = "of no project" if project is None else f"in project {project}"
            raise NotAllowed(f"{identity} has no permission {permission} for what is {where}")

    def require_new(self, identity: Identity, permission: str, project: str | None) -> None:
        """
        Do what `require_in` does, and raise `NotFound` where there is no such project.

        Who may do nothing there is not told whether there is one.
        """
        self.require_in(identity, permission, project)
        if project is None:
            return
        key = project_id(project)
        if self._accounts.read(lambda book: book.project(key)) is None:
            raise NotFound(f"there is no project {key}: `physicsrunner projects add` makes one")

    def may(self, identity: Identity, permission: str, run: RunSummary) -> bool:
        """Say whether *identity* has *permission* for *run*."""
        scope = identity.scope_in(permission, run.project_id)
        if scope is Scope.OWN:
            return self._owns(identity, run)
        return scope is not Scope.NONE

    def may_see(
        self, identity: Identity, permission: str, project: str | None, creator: str | None
    ) -> bool:
        """Say whether *identity* has *permission* for a thing of *project* that *creator* made."""
        scope = identity.scope_in(permission, project)
        if scope is Scope.OWN:
            return identity.kind == "user" and creator == identity.subject
        return scope is not Scope.NONE

    def scope(self, identity: Identity, permission: str) -> Scope:
        """Return for what *identity* has *permission*."""
        return identity.scope(permission)

    def visible(self, identity: Identity, permission: str) -> Visible | None:
        """Return what a list may show a person for *permission*; None: everything."""
        if identity.scope(permission) is Scope.ANY:
            return None
        own = identity.scope_in(permission, None) is not Scope.NONE
        return Visible(identity.projects_with(permission), identity.subject if own else None)

    def narrowed(self, identity: Identity, wanted: RunFilter) -> RunFilter:
        """Return *wanted* with the bound of what *identity* may read."""
        if identity.kind == "agent":
            return replace(wanted, agent=identity.subject)
        seen = self.visible(identity, "runs:read")
        if seen is None:
            return wanted
        projects, own = seen.projects, seen.creator or ""
        if wanted.projects is not None:  # it has such a bound already: what lies in both
            projects = [one for one in projects if one in wanted.projects]
            own = own if own == wanted.visible_to else ""
        return replace(wanted, projects=projects, visible_to=own)

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
        elif identity.kind != "agent":
            raise NotAllowed(f"{identity} has no permission {permission}")
        record = self._store.attempt(run, attempt)
        if record is None:
            raise NotFound(f"there is no attempt {attempt} of run {run}")
        if identity.kind == "user":
            return record.agent
        if identity.kind == "agent" and (record.agent != identity.subject or self._is_claimed(run)):
            raise NotAllowed(f"agent {identity.subject} never had attempt {attempt} of run {run}")
        return identity.subject

    def _owns(self, identity: Identity, run: RunSummary) -> bool:
        if identity.kind == "attempt":
            return identity.run == run.id
        if identity.kind == "agent":
            if run.claimed:
                return False  # its creator carries it out, whatever that machine is called
            held = run.agent == identity.subject
            return held or any(
                item.agent == identity.subject for item in self._store.attempts(run.id)
            )
        return is_creator(identity, run)


def is_creator(identity: Identity, run: RunSummary) -> bool:
    """Say whether *identity* is the person who created *run*."""
    return identity.kind == "user" and run.created_by == identity.subject
