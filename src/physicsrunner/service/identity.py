"""
Who calls: the bearer of a token that was verified, and what the table says for them.

Pure. Whose a run is and how a token stands is told from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from physicsrunner.core.permissions import (
    ALWAYS,
    OF_PROJECTS,
    Scope,
    higher,
    project_scope,
    scope_of,
)
from physicsrunner.store.rows import Actor


@dataclass(frozen=True)
class Identity:
    """The bearer of a token that was verified."""

    kind: str  #: user, agent, attempt or enroll
    subject: str  #: the user's name, or the agent's id
    role: str | None = None  #: of a user, for the whole server
    run: str | None = None  #: of an attempt's token
    attempt: int | None = None
    issued: float = 0.0  #: POSIX seconds
    expires: float | None = None
    origin: str | None = None  #: the network address of the caller
    token: str | None = None  #: the token's id; None: an attempt's
    scopes: frozenset[str] | None = None  #: permissions that the token is confined to
    project: str | None = None  #: the project that the token is confined to
    projects: Mapping[str, str] = field(default_factory=dict)  #: project -> role of a user there

    @property
    def actor(self) -> Actor:
        """Who is to be named for what this caller changes."""
        machine = self.kind in ("agent", "attempt")
        return Actor(f"agent:{self.subject}" if machine else self.subject, self.origin)

    def scope(self, permission: str) -> Scope:
        """Return for what, of all that there is, the caller has *permission*."""
        if not self._admits(permission):
            return Scope.NONE
        wide = scope_of(self.kind, self.role, permission)
        if self.kind != "user" or permission in ALWAYS:
            return wide
        if self.project is not None:
            # Nothing of the server, and of projects that one alone.
            found = self.scope_in(permission, self.project)
            return Scope.PROJECT if found is Scope.ANY else found
        for role in self.projects.values():
            wide = higher(wide, project_scope(role, permission))
        return wide

    def scope_in(self, permission: str, project: str | None) -> Scope:
        """
        Return for what of *project* the caller has *permission*; None: of what has no project.

        OWN holds for what the caller made there, PROJECT and ANY for all of it. Permissions of the
        server are in no project.
        """
        if permission not in OF_PROJECTS or not self._admits(permission):
            return Scope.NONE
        if self.project is not None and self.project != project:
            return Scope.NONE
        wide = scope_of(self.kind, self.role, permission)
        if self.kind != "user" or project is None:
            return wide
        if self.role is None:
            wide = Scope.NONE  # what belongs to a project is nobody's own
        return higher(wide, project_scope(self.projects.get(project), permission))

    def projects_with(self, permission: str) -> list[str]:
        """Return the projects that the caller may reach whole with *permission*, as a member."""
        named = [self.project] if self.project is not None else sorted(self.projects)
        return [name for name in named if self.scope_in(permission, name).value > Scope.OWN.value]

    def _admits(self, permission: str) -> bool:
        return self.scopes is None or permission in self.scopes or permission in ALWAYS

    def __str__(self) -> str:
        if self.kind == "attempt":
            return f"the token of attempt {self.attempt} of run {self.run}"
        role = f" ({self.role})" if self.role else ""
        return f"{self.kind} {self.subject}{role}"
