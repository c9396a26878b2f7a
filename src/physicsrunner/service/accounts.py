"""
People and projects: made, changed, listed; and the login.

Promises: a password is kept as its argon2 hash alone; five wrong ones in a row lock a person out
for a quarter of an hour, also across restarts, and whether a name exists cannot be told from the
answer. Every change writes its event in its transaction. People are disabled, never deleted: their
runs would become those of the next person of that name. One enabled admin always stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from physicsrunner.core.permissions import ROLES, Scope
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    TooManyTries,
)
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.names import project_id, title_of, user_name
from physicsrunner.service.passwords import Passwords
from physicsrunner.service.people import Project as Project
from physicsrunner.service.people import User as User
from physicsrunner.service.standing import Accounts
from physicsrunner.service.strangers import Strangers
from physicsrunner.service.tokens import Issued, account_event, revoke_all
from physicsrunner.store.accounts import AccountBook, MemberRow, ProjectRow, UserRow
from physicsrunner.store.rows import Actor
from physicsrunner.wire import live

TRIES: Final = 5
LOCKED_S: Final = 15 * 60.0
LOGIN_S: Final = 12 * 3600.0
LONGEST_LOGIN_S: Final = 90 * 86_400.0
UNCHANGED: Final = object()  #: of an argument: leave it as it is


class AccountService:
    """Users, projects and their members. Thread-safe."""

    def __init__(
        self, access: AccessService, *, now: Callable[[], float], passwords: Passwords | None = None
    ) -> None:
        self._access = access
        self._accounts: Accounts = access.accounts
        self._now = now
        self._passwords = passwords or Passwords()
        self._strangers = Strangers()

    # -- login -----------------------------------------------------------------------------------

    def login(
        self, user: str, password: str, *, origin: str | None = None, lifetime_s: float = LOGIN_S
    ) -> Issued:
        """
        Return a token for *user*, who knows *password*.

        Raises
        ------
        NotAuthenticated
            If the name or the password is wrong, or the person is disabled.
        TooManyTries
            After five wrong passwords in a row, for a quarter of an hour.
        """
        if not 0 < lifetime_s <= LONGEST_LOGIN_S:
            raise InvalidRequest("a login lasts over 0 s and at most 90 days")
        row = self._accounts.read(lambda book: book.user(user))
        self._refuse_locked(row or self._strangers.row(user))
        # Of nobody, too: the time that it takes must not tell whether there is such a person.
        right = self._passwords.fits(None if row is None else row.password, password)
        by = Actor(row.name if row is not None else "", origin)

        def work(book: AccountBook) -> Issued | UserRow:
            now, present = self._now(), book.user(user)
            if present is None:
                book.tell(account_event(live.LOGIN_FAILED, now))
                return self._strangers.change(user, lambda row: _counted(row, now))
            if _locked(present, now):
                return present  # meanwhile, by tries beside this one
            if not right or present.disabled:
                return _failed(book, present, now)
            book.put_user(replace(present, failures=0, locked_until=None, last_login=now))
            book.tell(account_event(live.LOGGED_IN, now, user=user))
            return self._access.tokens.login_token(book, user, lifetime_s)

        answer = self._accounts.change(work, by=by)
        if isinstance(answer, Issued):
            return answer
        self._refuse_locked(answer)
        raise NotAuthenticated("user or password is wrong")

    def _refuse_locked(self, row: UserRow) -> None:
        now = self._now()
        if row.locked_until is not None and _locked(row, now):
            error = TooManyTries(f"too many wrong passwords: {row.name} is locked out for a while")
            error.retry_after = row.locked_until - now
            raise error

    def set_password(
        self, identity: Identity, user: str, password: str, *, old: str | None = None
    ) -> None:
        """
        Give *user* a new password, and end their other logins.

        Changing one's own takes the *old* one, if there is one.
        """
        scope = identity.scope("users:password")
        if scope is Scope.NONE or (scope is Scope.OWN and identity.subject != user):
            raise NotAllowed(f"{identity} may not set the password of {user}")
        row = self._accounts.read(lambda book: book.user(user))
        if row is None:
            raise NotFound(f"there is no user {user}")
        if scope is Scope.OWN and row.password is not None:
            self._refuse_locked(row)
            if not self._passwords.fits(row.password, old or ""):
                self._accounts.change(lambda book: self._count_wrong(book, user), by=identity.actor)
                raise NotAuthenticated("the old password is wrong")
        hashed = self._passwords.hashed(password)

        def work(book: AccountBook) -> None:
            now, present = self._now(), book.user(user)
            if present is None:
                raise NotFound(f"there is no user {user}")
            book.put_user(replace(present, password=hashed, failures=0, locked_until=None))
            book.tell(account_event(live.PASSWORD_CHANGED, now, user=user))
            revoke_all(book, user, now, named="login", but=identity.token)

        self._accounts.change(work, by=identity.actor)

    def _count_wrong(self, book: AccountBook, user: str) -> None:
        present = book.user(user)
        if present is not None:
            _failed(book, present, self._now())

    # -- users -----------------------------------------------------------------------------------

    def add_user(
        self, identity: Identity, name: str, role: str | None = None, password: str | None = None
    ) -> User:
        """Make a person, with a *role* for the whole server or none. `Conflict` if there is one."""
        self._access.require(identity, "users:create")
        made = UserRow(user_name(name), self._now(), role=_role_or_none(role))
        if password is not None:
            made = replace(made, password=self._passwords.hashed(password))

        def work(book: AccountBook) -> UserRow:
            # Names that differ in case alone would be taken for each other.
            if any(row.name.lower() == name.lower() for row in book.users()):
                raise Conflict(f"there is a user {name} already")
            book.put_user(made)
            book.tell(account_event(live.USER_CREATED, made.created_at, user=name, role=role))
            return made

        return self._user(self._accounts.change(work, by=identity.actor))

    def change_user(
        self,
        identity: Identity,
        name: str,
        *,
        role: Any = UNCHANGED,
        disabled: bool | None = None,
        unlock: bool = False,
    ) -> User:
        """Change a person's role, disable or enable them, or lift a lock-out."""
        self._access.require(identity, "users:update")
        wanted: dict[str, Any] = {}
        if role is not UNCHANGED:
            wanted["role"] = _role_or_none(role)
        if disabled is not None:
            wanted["disabled"] = disabled
        said = dict(wanted)
        if unlock:
            wanted.update(failures=0, locked_until=None)
            said["unlocked"] = True

        def work(book: AccountBook) -> UserRow:
            row = book.user(name)
            if row is None:
                raise NotFound(f"there is no user {name}")
            changed = replace(row, **wanted)
            if changed == row:
                return row
            book.put_user(changed)
            if _is_admin(row) and not any(map(_is_admin, book.users())):
                raise Conflict(f"{name} is the last admin; make another one first")
            data = {**said, "role": changed.role, "disabled": changed.disabled}
            book.tell(account_event(live.USER_CHANGED, self._now(), user=name, **data))
            return changed

        return self._user(self._accounts.change(work, by=identity.actor))

    def user(self, identity: Identity, name: str) -> User:
        """Return one person: oneself, or anybody where that is allowed."""
        scope = identity.scope("users:read")
        if scope is Scope.NONE or (scope is Scope.OWN and identity.subject != name):
            raise NotFound(f"there is no user {name}")
        row = self._accounts.read(lambda book: book.user(name))
        if row is None:
            raise NotFound(f"there is no user {name}")
        return self._user(row)

    def users(self, identity: Identity) -> list[User]:
        """Return all persons that the caller may see: all, or oneself."""
        self._access.require(identity, "users:read")
        rows = self._accounts.read(lambda book: book.users())
        everybody = identity.scope("users:read") is Scope.ANY
        return [self._user(row) for row in rows if everybody or row.name == identity.subject]

    def _user(self, row: UserRow) -> User:
        return User(
            name=row.name,
            role=row.role,
            disabled=row.disabled,
            locked=_locked(row, self._now()),
            has_password=row.password is not None,
            created_at=row.created_at,
            last_login=row.last_login,
        )

    # -- projects --------------------------------------------------------------------------------

    def add_project(
        self, identity: Identity, project: str, name: str | None = None, cap: int | None = None
    ) -> Project:
        """Make a project; who makes it is its first admin. *cap*: runs of it at the same time."""
        self._access.require(identity, "projects:create")
        now = self._now()
        title = title_of(name or project)
        made = ProjectRow(project_id(project), title, identity.subject, now, _cap(cap))

        def work(book: AccountBook) -> None:
            if any(row.id.lower() == project.lower() for row in book.projects()):
                raise Conflict(f"there is a project {project} already")
            book.put_project(made)
            data = {"name": title, "max_concurrent_runs": cap}
            book.tell(account_event(live.PROJECT_CREATED, now, project=project, **data))
            if book.user(identity.subject) is not None:
                _set_member(book, MemberRow(project, identity.subject, "admin"), now)

        self._accounts.change(work, by=identity.actor)
        return _project(made, "admin")

    def change_project(
        self, identity: Identity, project: str, *, name: str | None = None, cap: Any = UNCHANGED
    ) -> Project:
        """Change a project's title, or how many runs of it may run at the same time."""
        self._seen(identity, "projects:update", project)
        wanted: dict[str, Any] = {}
        if name is not None:
            wanted["name"] = title_of(name)
        if cap is not UNCHANGED:
            wanted["max_concurrent_runs"] = _cap(cap)

        def work(book: AccountBook) -> ProjectRow:
            row = _known(book.project(project), project)
            changed = replace(row, **wanted)
            if changed != row:
                book.put_project(changed)
                event = account_event(live.PROJECT_CHANGED, self._now(), project=project, **wanted)
                book.tell(event)
            return changed

        row = self._accounts.change(work, by=identity.actor)
        return _project(row, identity.projects.get(project))

    def project(self, identity: Identity, project: str) -> Project:
        """Return a project; `NotFound` for those who may not see it."""
        self._seen(identity, "projects:read", project)
        row = self._accounts.read(lambda book: book.project(project))
        return _project(_known(row, project), identity.projects.get(project))

    def projects(self, identity: Identity) -> list[Project]:
        """Return the projects that the caller may see."""
        self._access.require(identity, "projects:read")
        rows = self._accounts.read(lambda book: book.projects())
        return [
            _project(row, identity.projects.get(row.id))
            for row in rows
            if identity.scope_in("projects:read", row.id) is not Scope.NONE
        ]

    def members(self, identity: Identity, project: str) -> list[MemberRow]:
        """Return the members of a project."""
        self._seen(identity, "members:read", project)

        def work(book: Any) -> list[MemberRow]:
            _known(book.project(project), project)
            found: list[MemberRow] = book.members(project=project)
            return found

        return self._accounts.read(work)

    def set_member(self, identity: Identity, project: str, user: str, role: str) -> MemberRow:
        """Make a person a member of a project, or change their role there."""
        self._seen(identity, "members:write", project)
        row = MemberRow(project, user, _role(role))

        def work(book: AccountBook) -> None:
            _known(book.project(project), project)
            if book.user(user) is None:
                raise NotFound(f"there is no user {user}")
            if row not in book.members(project=project, user=user):
                _set_member(book, row, self._now())

        self._accounts.change(work, by=identity.actor)
        return row

    def remove_member(self, identity: Identity, project: str, user: str) -> None:
        """Take a person out of a project; again is success."""
        self._seen(identity, "members:write", project)

        def work(book: AccountBook) -> None:
            _known(book.project(project), project)
            if book.drop_member(project, user):
                now = self._now()
                book.tell(account_event(live.MEMBER_REMOVED, now, project=project, user=user))

        self._accounts.change(work, by=identity.actor)

    def _seen(self, identity: Identity, permission: str, project: str) -> None:
        """Raise unless the caller has *permission* there; `NotFound` if not even its sight."""
        if identity.scope_in("projects:read", project) is Scope.NONE:
            self._access.require(identity, permission)
            raise NotFound(f"there is no project {project}")
        self._access.require_in(identity, permission, project)


def _failed(book: AccountBook, row: UserRow, now: float) -> UserRow:
    """Count a wrong password; the fifth in a row locks."""
    book.tell(account_event(live.LOGIN_FAILED, now, user=row.name))
    changed = _counted(row, now)
    if changed.locked_until is not None:
        until = changed.locked_until
        book.tell(account_event(live.USER_LOCKED, now, user=row.name, until=until))
    book.put_user(changed)
    return changed


def _counted(row: UserRow, now: float) -> UserRow:
    if row.failures + 1 < TRIES:
        return replace(row, failures=row.failures + 1, locked_until=None)
    return replace(row, failures=0, locked_until=now + LOCKED_S)


def _locked(row: UserRow, now: float) -> bool:
    return row.locked_until is not None and now < row.locked_until


def _is_admin(row: UserRow) -> bool:
    return row.role == "admin" and not row.disabled


def _set_member(book: AccountBook, row: MemberRow, now: float) -> None:
    book.put_member(row)
    data = {"user": row.user, "role": row.role}
    book.tell(account_event(live.MEMBER_SET, now, project=row.project_id, **data))


def _known(row: ProjectRow | None, project: str) -> ProjectRow:
    if row is None:
        raise NotFound(f"there is no project {project}")
    return row


def _project(row: ProjectRow, role: str | None) -> Project:
    return Project(row.id, row.name, row.created_by, row.created_at, row.max_concurrent_runs, role)


def _role(role: Any) -> str:
    if role not in ROLES:
        raise InvalidRequest(f"role {str(role)[:40]!r}: the roles are {', '.join(ROLES)}")
    return str(role)


def _role_or_none(role: Any) -> str | None:
    return None if role is None else _role(role)


def _cap(cap: Any) -> int | None:
    whole = isinstance(cap, int) and not isinstance(cap, bool)
    if cap is not None and (not whole or not 1 <= cap <= 1_000_000):
        raise InvalidRequest("max_concurrent_runs is a whole number over 0, or null: any number")
    return None if cap is None else int(cap)
