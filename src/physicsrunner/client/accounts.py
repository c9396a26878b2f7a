"""
People, projects, tokens, login and the audit of a server.

Promises those of `client.asking.Asking`. A token that was made stands in the answer alone.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from physicsrunner.client.asking import Asking
from physicsrunner.wire import rest

_List = builtins.list


class AccountCalls(Asking):
    """See the module; `client.client.Client` is the whole."""

    def login(self, user: str, password: str, *, lifetime_s: float | None = None) -> dict[str, Any]:
        """Exchange a password for a token: ``{token, expires}``."""
        wanted = {"user": user, "password": password, "lifetime_s": lifetime_s}
        return dict(self._value("POST", rest.LOGIN, json=_given(wanted)))

    def logout(self) -> None:
        """Revoke the token of this client."""
        self._value("POST", rest.LOGOUT)

    def users(self) -> _List[dict[str, Any]]:
        """Return the people that one may see."""
        return list(self._value("GET", rest.USERS)["data"])

    def add_user(
        self, name: str, *, role: str | None = None, password: str | None = None
    ) -> dict[str, Any]:
        """Make a person, with a role for the whole server or none."""
        wanted = {"name": name, "role": role, "password": password}
        return dict(self._value("POST", rest.USERS, json=_given(wanted)))

    def change_user(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change ``role`` (None: none), ``disabled``, or ``unlock`` a person."""
        return dict(self._value("PATCH", rest.user(name), json=changes))

    def set_password(self, name: str, password: str, *, old: str | None = None) -> None:
        """Set a password; *old* is needed where it is one's own."""
        body = _given({"password": password, "old": old})
        self._value("PUT", f"{rest.user(name)}/password", json=body)

    def projects(self) -> _List[dict[str, Any]]:
        """Return the projects that one may see, with one's role in each."""
        return list(self._value("GET", rest.PROJECTS)["data"])

    def add_project(
        self, project: str, *, name: str | None = None, max_concurrent_runs: int | None = None
    ) -> dict[str, Any]:
        """Make a project; who makes it is its first admin."""
        wanted = {"id": project, "name": name, "max_concurrent_runs": max_concurrent_runs}
        return dict(self._value("POST", rest.PROJECTS, json=_given(wanted)))

    def change_project(self, project: str, **changes: Any) -> dict[str, Any]:
        """Change ``name`` or ``max_concurrent_runs`` (None: any number)."""
        return dict(self._value("PATCH", rest.project(project), json=changes))

    def members(self, project: str) -> _List[dict[str, Any]]:
        """Return the members of a project and their roles."""
        return list(self._value("GET", rest.members(project))["data"])

    def set_member(self, project: str, user: str, role: str) -> dict[str, Any]:
        """Make a person a member of a project, or change their role there."""
        return dict(self._value("PUT", rest.member(project, user), json={"role": role}))

    def remove_member(self, project: str, user: str) -> dict[str, Any]:
        """Take a person out of a project."""
        return dict(self._value("DELETE", rest.member(project, user)))

    def tokens(self, user: str | None = None) -> _List[dict[str, Any]]:
        """Return one's tokens, or as admin everybody's or those of *user*."""
        params = {} if user is None else {"user": user}
        return list(self._value("GET", rest.TOKENS, params=params)["data"])

    def make_token(
        self,
        name: str,
        *,
        user: str | None = None,
        scopes: Sequence[str] | None = None,
        project: str | None = None,
        lifetime_s: float | None = None,
    ) -> dict[str, Any]:
        """Make a token, confined to permissions (*scopes*) or a *project* where these are named."""
        wanted = {
            "name": name,
            "user": user,
            "scopes": None if scopes is None else list(scopes),
            "project_id": project,
            "lifetime_s": lifetime_s,
        }
        return dict(self._value("POST", rest.TOKENS, json=_given(wanted)))

    def revoke_token(self, token_id: str) -> None:
        """Take a token back: from now on it is refused."""
        self._value("DELETE", rest.token(token_id))

    def audit(
        self,
        *,
        after: int = 0,
        actor: str | None = None,
        kind: str | None = None,
        limit: int = 500,
    ) -> _List[dict[str, Any]]:
        """Return entries of the audit behind the id *after*, in the order of the log."""
        params = _given({"after": after, "actor": actor, "type": kind, "limit": limit})
        return list(self._value("GET", rest.AUDIT, params=params)["data"])


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
