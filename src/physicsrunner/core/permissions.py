"""
Who may do what: the one table.

Promises: a permission is ``resource:action``; what the table does not grant is refused. A scope
says for which runs a permission holds: for any, or only for one's own (a user's own are those
they created, an agent's those it holds or held, an attempt's token its run alone).

Pure: whose a run is, the service finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Scope(Enum):
    """For which runs a permission holds."""

    NONE = 0
    OWN = 1
    ANY = 2


ROLES: Final = ("viewer", "user", "operator", "admin")

_VIEWER: Final = {
    "runs:read": Scope.ANY,
    "files:read": Scope.ANY,
    "events:read": Scope.ANY,
    "models:read": Scope.ANY,
}
_USER: Final = {
    **_VIEWER,
    "inputs:read": Scope.ANY,
    "inputs:create": Scope.ANY,
    "models:create": Scope.ANY,
    "runs:create": Scope.ANY,
    "runs:claim": Scope.OWN,
    "runs:cancel": Scope.OWN,
    "leases:renew": Scope.OWN,
    "reports:write": Scope.OWN,
    "files:write": Scope.OWN,
}
_OPERATOR: Final = {
    **_USER,
    "runs:cancel": Scope.ANY,
    "leases:acquire": Scope.ANY,
    "leases:renew": Scope.ANY,
    "reports:write": Scope.ANY,
    "files:write": Scope.ANY,
    "agents:read": Scope.ANY,
}
_ADMIN: Final = {
    **_OPERATOR,
    "agents:enroll": Scope.ANY,
    "users:create": Scope.ANY,
}
_AGENT: Final = {
    "runs:read": Scope.OWN,
    "files:read": Scope.OWN,
    "files:write": Scope.OWN,
    "leases:acquire": Scope.ANY,
    "leases:renew": Scope.OWN,
    "reports:write": Scope.OWN,
    "models:read": Scope.ANY,
    "inputs:read": Scope.ANY,
}
_ATTEMPT: Final = {
    "runs:read": Scope.OWN,
    "files:read": Scope.OWN,
    "files:write": Scope.OWN,
    "leases:renew": Scope.OWN,
    "reports:write": Scope.OWN,
    "models:read": Scope.OWN,
    "inputs:read": Scope.OWN,
    "events:read": Scope.OWN,
}

#: Bearer -> permission -> scope. People are their role, machines the kind of their token.
GRANTS: Final[Mapping[str, Mapping[str, Scope]]] = MappingProxyType(
    {
        "viewer": MappingProxyType(_VIEWER),
        "user": MappingProxyType(_USER),
        "operator": MappingProxyType(_OPERATOR),
        "admin": MappingProxyType(_ADMIN),
        "kind:agent": MappingProxyType(_AGENT),
        "kind:attempt": MappingProxyType(_ATTEMPT),
    }
)

PERMISSIONS: Final = frozenset(name for grants in GRANTS.values() for name in grants)


def scope_of(kind: str, role: str | None, permission: str) -> Scope:
    """
    Return for which runs the bearer of a token has *permission*.

    Parameters
    ----------
    kind
        The token's kind: user, agent or attempt.
    role
        A person's role; without meaning for machines.
    """
    # A role that is none of ours must not be taken for a kind of token.
    person = role if role in ROLES else None
    bearer = person if kind == "user" else f"kind:{kind}"
    return GRANTS.get(bearer or "", {}).get(permission, Scope.NONE)
