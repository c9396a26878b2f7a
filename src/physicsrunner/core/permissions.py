"""
Who may do what: the one table.

Promises: a permission is ``resource:action``; what the table does not grant is refused. A scope
says for which things a permission holds: one's own (a person's own are the runs they created, an
agent's those it holds or held, an attempt's token its run alone), those of a project, or any.

A person has a role for the whole server, or none, and a role in each project they are a member of.
What counts is the higher of both. What belongs to a project is nobody's own: a person without a
server-wide role has there what their role in that project gives.

Pure: whose a run is, the service finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Scope(Enum):
    """For what a permission holds; a higher value holds for more."""

    NONE = 0
    OWN = 1
    PROJECT = 2  #: for all of one project, or of the projects one is a member of
    ANY = 3


ROLES: Final = ("viewer", "user", "operator", "admin")
#: Who a token can stand for besides: a person without a server-wide role, and machines.
NOBODY: Final = "none"
MACHINES: Final = ("agent", "attempt", "enroll")
BEARERS: Final = (NOBODY, *ROLES, *(f"kind:{kind}" for kind in MACHINES))

_SCOPES: Final = {"-": Scope.NONE, "own": Scope.OWN, "any": Scope.ANY}
_COLUMNS: Final = (*ROLES, NOBODY, *(f"kind:{kind}" for kind in MACHINES))

# Of a project: a role in the project gives the same there, for all of the project or one's own.
_OF_PROJECTS: Final = """
#                 viewer  user  operator  admin   none    agent  attempt  enroll
runs:read         any     any   any       any     own     own    own      -
runs:create       -       any   any       any     own     -      -        -
runs:claim        -       own   own       own     own     -      -        -
runs:cancel       -       own   any       any     own     -      -        -
runs:pause        -       own   any       any     own     -      -        -
runs:resume       -       own   any       any     own     -      -        -
runs:retry        -       own   any       any     own     -      -        -
runs:delete       -       own   any       any     own     -      -        -
runs:pin          -       own   any       any     own     -      -        -
runs:update       -       own   any       any     own     -      -        -
files:read        any     any   any       any     own     own    own      -
files:write       -       own   any       any     own     own    own      -
leases:renew      -       own   any       any     own     own    own      -
reports:write     -       own   any       any     own     own    own      -
events:read       any     any   any       any     own     -      own      -
models:read       any     any   any       any     own     own    own      -
models:create     -       any   any       any     own     -      -        -
inputs:read       -       any   any       any     own     own    own      -
inputs:create     -       any   any       any     own     -      -        -
studies:read      any     any   any       any     own     -      -        -
studies:create    -       any   any       any     own     -      -        -
studies:update    -       own   any       any     own     -      -        -
projects:read     any     any   any       any     own     -      -        -
projects:update   -       -     -         any     -       -      -        -
members:read      any     any   any       any     own     -      -        -
members:write     -       -     -         any     -       -      -        -
messages:send     -       own   any       any     own     -      -        -
webhooks:read     -       -     any       any     -       -      -        -
webhooks:create   -       -     any       any     -       -      -        -
webhooks:update   -       -     any       any     -       -      -        -
webhooks:delete   -       -     any       any     -       -      -        -
"""
# Of the server: no role in a project gives any of these.
_OF_THE_SERVER: Final = """
#                 viewer  user  operator  admin   none    agent  attempt  enroll
leases:acquire    -       -     any       any     -       any    -        -
queue:read        any     any   any       any     -       -      -        -
agents:read       -       -     any       any     -       own    -        -
agents:heartbeat  -       -     any       any     -       own    -        -
agents:enroll     -       -     any       any     -       -      -        -
agents:join       -       -     -         -       -       -      -        own
agents:drain      -       -     any       any     -       -      -        -
agents:resume     -       -     any       any     -       -      -        -
agents:remove     -       -     any       any     -       -      -        -
projects:create   -       -     any       any     -       -      -        -
users:read        own     own   own       any     own     -      -        -
users:create      -       -     -         any     -       -      -        -
users:update      -       -     -         any     -       -      -        -
users:password    own     own   own       any     own     -      -        -
tokens:read       own     own   own       any     own     -      -        -
tokens:create     own     own   own       any     own     -      -        -
tokens:revoke     own     own   own       any     own     -      -        -
audit:read        -       -     -         any     -       -      -        -
admin:read        -       -     -         any     -       -      -        -
admin:write       -       -     -         any     -       -      -        -
self:read         own     own   own       own     own     own    own      own
self:refresh      own     own   own       own     own     own    -        -
self:logout       own     own   own       own     own     -      -        -
"""


def _rows(text: str) -> dict[str, dict[str, Scope]]:
    rows = {}
    for line in text.strip().splitlines():
        if not line.startswith("#"):
            permission, *words = line.split()
            scopes = [_SCOPES[word] for word in words]
            rows[permission] = dict(zip(_COLUMNS, scopes, strict=True))
    return rows


_PROJECT_ROWS: Final = _rows(_OF_PROJECTS)
_TABLE: Final = {**_PROJECT_ROWS, **_rows(_OF_THE_SERVER)}

#: Bearer -> permission -> scope. People are their role, machines the kind of their token.
GRANTS: Final[Mapping[str, Mapping[str, Scope]]] = MappingProxyType(
    {
        bearer: MappingProxyType(
            {name: row[bearer] for name, row in _TABLE.items() if row[bearer] is not Scope.NONE}
        )
        for bearer in BEARERS
    }
)

PERMISSIONS: Final = frozenset(_TABLE)
#: Permissions that a role in a project gives, too, for what belongs to it.
OF_PROJECTS: Final = frozenset(_PROJECT_ROWS)
#: What every token may do, however it is confined: it concerns the token itself.
ALWAYS: Final = frozenset({"self:read", "self:refresh", "self:logout"})


def scope_of(kind: str, role: str | None, permission: str) -> Scope:
    """
    Return for what the bearer of a token has *permission*, projects left aside.

    Parameters
    ----------
    kind
        The token's kind: user, agent, attempt or enroll.
    role
        A person's server-wide role; without meaning for machines.
    """
    # A role that is none of ours must not be taken for a kind of token.
    person = role if role in ROLES else NOBODY
    bearer = person if kind == "user" else f"kind:{kind}"
    return GRANTS.get(bearer, {}).get(permission, Scope.NONE)


def project_scope(role: str | None, permission: str) -> Scope:
    """Return for what of a project a member with *role* there has *permission*."""
    if role not in ROLES or permission not in OF_PROJECTS:
        return Scope.NONE
    found = GRANTS[role].get(permission, Scope.NONE)
    return Scope.PROJECT if found is Scope.ANY else found


def higher(one: Scope, other: Scope) -> Scope:
    """Return the scope that holds for more."""
    return one if one.value >= other.value else other
