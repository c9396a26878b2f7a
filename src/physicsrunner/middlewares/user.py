"""Who calls an application that is guarded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from physicsrunner.core.permissions import (
    OF_PROJECTS,
    PERMISSIONS,
    ROLES,
    Scope,
    higher,
    project_scope,
    scope_of,
)

#: What the application's own permissions need where it does not say: the highest role.
_LAST: Final = ROLES[-1:]


@dataclass(frozen=True)
class CurrentUser:
    """The bearer of a token that was verified."""

    name: str  #: a person's; of a machine ``agent:NAME``
    kind: str = "user"  #: user, agent or attempt
    role: str | None = None  #: of a person, for the whole server
    projects: Mapping[str, str] = field(default_factory=dict)  #: project -> role there
    scopes: frozenset[str] | None = None  #: permissions that the token is confined to
    project: str | None = None  #: the project that the token is confined to
    run: str | None = None  #: of an attempt's token
    expires: float | None = None  #: POSIX seconds

    def scope(self, permission: str) -> Scope:
        """Return for what physicsrunner's own table grants *permission*."""
        if self.scopes is not None and permission not in self.scopes:
            return Scope.NONE
        wide = scope_of(self.kind, self.role, permission)
        if self.kind != "user":
            return wide
        if self.project is not None:
            if permission not in OF_PROJECTS:
                return Scope.NONE
            base = wide if self.role is not None else Scope.NONE
            found = higher(base, project_scope(self.projects.get(self.project), permission))
            return Scope.PROJECT if found is Scope.ANY else found
        for role in self.projects.values():
            wide = higher(wide, project_scope(role, permission))
        return wide

    def has(self, permission: str, roles: Mapping[str, Iterable[str]] | None = None) -> bool:
        """
        Say whether the caller has *permission*, for some things at least.

        *roles* says what each role gives of the application's own permissions (``resource:*``
        stands for all of a resource); a role has what the lower ones have. A permission that
        neither it nor the table names takes the role admin.
        """
        if permission in PERMISSIONS:
            return self.scope(permission) is not Scope.NONE
        if self.kind != "user" or self.role not in ROLES:
            return False
        if self.scopes is not None or self.project is not None:
            return False  # confined to permissions or projects of the server
        granted = roles or {}
        if not any(_names(words, permission) for words in granted.values()):
            return self.role in _LAST
        mine = ROLES[: ROLES.index(self.role) + 1]
        return any(_names(granted.get(role, ()), permission) for role in mine)


def _names(words: Iterable[str], permission: str) -> bool:
    resource = permission.partition(":")[0]
    return any(word in (permission, f"{resource}:*", "*") for word in words)
