"""The table of permissions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from physicsrunner.core.permissions import GRANTS, PERMISSIONS, ROLES, Scope, scope_of


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
        ("user", None, "runs:read", Scope.NONE),
        ("user", "kind:agent", "leases:acquire", Scope.NONE),
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
