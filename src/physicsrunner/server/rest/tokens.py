"""Tokens of people: made, listed, revoked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.access import ISSUED, ISSUED_SHAPE, issued, limited
from physicsrunner.service.access import Identity
from physicsrunner.service.tokens import Issued
from physicsrunner.store.accounts import TokenRow
from physicsrunner.wire import rest

router = APIRouter(tags=["access"])

Reader = Annotated[Identity, Allowed("tokens:read")]
Creator = Annotated[Identity, Allowed("tokens:create")]
Revoker = Annotated[Identity, Allowed("tokens:revoke")]

_TOKEN = f"{rest.TOKENS}/{{token}}"
_SHAPE = {
    "id": str,
    "name": str,
    "kind": str,
    "subject": str,
    "scopes": list[str],
    "project_id": str,
    "created_by": str,
    "created_at": float,
    "expires_at": float,
    "last_used_at": float,
    "last_used_from": str,
}
_EXAMPLE = {
    "id": "6f1c0d5e0a7b4d0e9a533a1f5b0c2d11",
    "name": "nightly sweep",
    "kind": "user",
    "subject": "ada",
    "scopes": ["runs:create", "runs:read"],
    "project_id": "thermal",
    "created_by": "ada",
    "created_at": 1767225600.0,
    "last_used_at": 1767229200.0,
    "last_used_from": "192.0.2.7",
}


@dataclass(frozen=True)
class NewToken:
    """Asks for a token."""

    name: str
    user: str | None = None  #: whose; None: one's own
    scopes: list[str] | None = None  #: permissions that it is confined to
    project_id: str | None = None  #: the project that it is confined to
    lifetime_s: float | None = None  #: None: it does not expire


def document(row: TokenRow) -> dict[str, Any]:
    """Return a token as it is listed; its text is nowhere."""
    found = asdict(row)
    del found["nonce"]
    return {name: value for name, value in found.items() if value is not None}


@router.get(
    rest.TOKENS, summary="List tokens", responses=gives({"data": [_SHAPE]}, {"data": [_EXAMPLE]})
)
async def list_tokens(who: Reader, parts: Shared, user: str | None = None) -> Response:
    """List one's tokens, or as admin everybody's or those of ``user``, with their last use."""
    rows = await to_thread.run_sync(parts.services.access.tokens.list, who, user)
    return answer({"data": [document(row) for row in rows]})


@router.post(
    rest.TOKENS,
    status_code=201,
    summary="Make a token",
    openapi_extra=takes(
        {"name": str, "user": str, "scopes": list[str], "project_id": str, "lifetime_s": float},
        {"name": "nightly sweep", "scopes": ["runs:create", "runs:read"], "project_id": "thermal"},
    ),
    responses=gives(ISSUED_SHAPE, {**ISSUED, "name": "nightly sweep"}, status=201),
)
async def create(request: Request, who: Creator, parts: Shared) -> Response:
    """
    Make a token; its text is in this answer alone.

    ``scopes`` confines it to permissions, ``project_id`` to a project. A confined token makes none
    that may do more.
    """
    asked = await limited(request, NewToken)

    def work() -> Issued:
        return parts.services.access.tokens.create(
            who,
            asked.name,
            user=asked.user,
            scopes=asked.scopes,
            project=asked.project_id,
            lifetime_s=asked.lifetime_s,
        )

    return issued(await to_thread.run_sync(work), 201)


@router.delete(
    _TOKEN,
    summary="Revoke a token",
    responses=gives({"id": str, "revoked": bool}, {"id": _EXAMPLE["id"], "revoked": True}),
)
async def revoke(token: str, who: Revoker, parts: Shared) -> Response:
    """Take a token back: from now on it is refused, on open connections too."""
    await to_thread.run_sync(parts.services.access.tokens.revoke, who, token)
    return answer({"id": token, "revoked": True})
