"""The table of permissions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from physicsrunner.core.permissions import (
    GRANTS,
    PERMISSIONS,
    ROLES,
    Scope,
    project_scope,
    scope_of,
)

ROOT = Path(__file__).resolve().parents[2]


def test_each_role_has_what_the_one_below_it_has() -> None:
    """Viewer, user, operator, admin: each may do at least as much as the one before."""
    for lower, higher in pairwise(ROLES):
        for permission, scope in GRANTS[lower].items():
            assert GRANTS[higher][permission].value >= scope.value, (lower, higher, permission)


def test_permissions_are_resource_and_action() -> None:
    """Every name has the form resource:action."""
    for permission in PERMISSIONS:
        resource, _, action = permission.partition(":")
        assert resource.isidentifier()
        assert action.isidentifier()


@pytest.mark.parametrize(
    ("kind", "role", "permission", "scope"),
    [
        ("user", "viewer", "runs:read", Scope.ANY),
        ("user", "viewer", "files:write", Scope.NONE),
        ("user", "user", "runs:cancel", Scope.OWN),
        ("user", "operator", "runs:cancel", Scope.ANY),
        ("user", None, "runs:read", Scope.OWN),
        ("user", None, "queue:read", Scope.NONE),
        ("enroll", None, "agents:join", Scope.OWN),
        ("enroll", None, "runs:read", Scope.NONE),
        ("user", "kind:agent", "leases:acquire", Scope.NONE),
        ("user", "none", "runs:create", Scope.OWN),
        ("agent", None, "leases:acquire", Scope.ANY),
        ("agent", "admin", "users:create", Scope.NONE),
        ("agent", None, "runs:create", Scope.NONE),
        ("attempt", None, "reports:write", Scope.OWN),
        ("attempt", "admin", "runs:cancel", Scope.NONE),
        ("attempt", None, "leases:acquire", Scope.NONE),
        ("nobody", "admin", "runs:read", Scope.NONE),
        ("user", "admin", "no:such", Scope.NONE),
    ],
)
def test_who_may_what(kind: str, role: str | None, permission: str, scope: Scope) -> None:
    """A machine is its token's kind whatever role it claims; what is not granted is refused."""
    assert scope_of(kind, role, permission) is scope


@pytest.mark.parametrize(
    ("role", "permission", "scope"),
    [
        ("viewer", "runs:read", Scope.PROJECT),
        ("viewer", "runs:cancel", Scope.NONE),
        ("user", "runs:cancel", Scope.OWN),
        ("user", "runs:create", Scope.PROJECT),
        ("operator", "runs:cancel", Scope.PROJECT),
        ("admin", "members:write", Scope.PROJECT),
        ("operator", "members:write", Scope.NONE),
        ("admin", "users:create", Scope.NONE),
        ("admin", "leases:acquire", Scope.NONE),
        (None, "runs:read", Scope.NONE),
        ("none", "runs:read", Scope.NONE),
    ],
)
def test_what_a_role_in_a_project_gives(role: str | None, permission: str, scope: Scope) -> None:
    """A role in a project gives there what it gives on the server, and nothing of the server."""
    assert project_scope(role, permission) is scope


def test_no_role_gives_what_a_role_without_one_has() -> None:
    """Whoever has no role has no permission that a user has not."""
    for permission, scope in GRANTS["none"].items():
        assert scope_of("user", "user", permission).value >= scope.value, permission


def test_the_docs_have_the_table() -> None:
    """docs/access.md says of every permission who has it, as the table does."""
    words = {Scope.NONE: "-", Scope.OWN: "own", Scope.ANY: "any"}
    bearers = [*ROLES, "none", "kind:agent", "kind:attempt", "kind:enroll"]
    lines = (ROOT / "docs" / "access.md").read_text(encoding="utf-8").splitlines()
    for permission in PERMISSIONS:
        scopes = [words[GRANTS[bearer].get(permission, Scope.NONE)] for bearer in bearers]
        assert f"| `{permission}` | {' | '.join(scopes)} |" in lines
