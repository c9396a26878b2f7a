"""Who am I, login and logout, and a fresh token for an expired attempt token."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Final, TypeVar, cast

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.errors import InvalidRequest
from physicsrunner.server.auth import Allowed, Token, open_route, origin_of
from physicsrunner.server.bodies import answer, json_of, message
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.service.accounts import LOGIN_S
from physicsrunner.service.tokens import Issued
from physicsrunner.wire import codec, rest

T = TypeVar("T")

router = APIRouter(tags=["access"])

Somebody = Annotated[Identity, Allowed("self:read")]
Leaving = Annotated[Identity, Allowed("self:logout")]
Refreshing = Annotated[Identity, Allowed("self:refresh")]

_JWT: Final = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"
_WHO = {"kind": "user", "subject": "ada", "role": "user", "projects": {"thermal": "admin"}}
ISSUED_SHAPE: Final = {"id": str, "name": str, "token": str, "expires": float}
ISSUED: Final = {
    "id": "6f1c0d5e0a7b4d0e9a533a1f5b0c2d11",
    "name": "login",
    "token": _JWT,
    "expires": 1767268800.0,
}


@dataclass(frozen=True)
class Login:
    """Asks for a token by a password."""

    user: str
    password: str
    lifetime_s: float = LOGIN_S


async def limited(request: Request, kind: type[T]) -> T:
    """
    Return the request's JSON, which asks for a token, as a *kind*.

    An unknown field is refused: it may be a limit with a wrong name, and the token would be one
    that has none.
    """
    body, known = await json_of(request), [field.name for field in fields(cast("Any", kind))]
    if isinstance(body, dict) and (unknown := sorted(set(body) - set(known))):
        named = f"a token is asked for with {', '.join(known)}"
        raise InvalidRequest(f"{named}; {unknown[0][:100]!r} is none of them")
    return codec.decode(kind, body)


def issued(found: Issued, status: int = 200) -> Response:
    """Answer with a token. No cache on the way may keep it."""
    said: dict[str, Any] = {"id": found.id, "name": found.name, "token": found.token}
    if found.expires is not None:
        said["expires"] = found.expires
    return answer(said, status, {"Cache-Control": "no-store"})


@router.get(
    rest.WHOAMI,
    summary="Who the token says I am",
    responses=gives(
        {
            "kind": str,
            "subject": str,
            "role": str,
            "run": str,
            "attempt": int,
            "projects": object,
            "scopes": list[str],
            "project": str,
            "expires": float,
        },
        _WHO,
    ),
)
async def whoami(who: Somebody) -> Response:
    """Answer with kind, subject, roles, what the token is confined to, an attempt token's run."""
    found = {
        "kind": who.kind,
        "subject": who.subject,
        "role": who.role,
        "run": who.run,
        "attempt": who.attempt,
        "projects": dict(who.projects) or None,
        "scopes": None if who.scopes is None else sorted(who.scopes),
        "project": who.project,
        "expires": who.expires,
    }
    return answer({name: value for name, value in found.items() if value is not None})


@router.post(
    rest.LOGIN,
    summary="Log in",
    openapi_extra=takes(
        {"user": str, "password": str, "lifetime_s": float},
        {"user": "ada", "password": "correct horse battery"},
    ),
    responses=gives(ISSUED_SHAPE, ISSUED),
    dependencies=[open_route("who logs in has no token yet")],
)
async def login(request: Request, parts: Shared) -> Response:
    """
    Exchange a password for a token.

    Five wrong passwords in a row lock the person out for a quarter of an hour, and an address may
    try 20 times a minute: 429 with Retry-After.
    """
    origin = origin_of(request)
    parts.logins.take(origin)
    asked = await message(request, Login)

    def work() -> Issued:
        return parts.services.accounts.login(
            asked.user, asked.password, origin=origin, lifetime_s=asked.lifetime_s
        )

    return issued(await to_thread.run_sync(work))


@router.post(
    rest.LOGOUT,
    summary="Log out",
    responses=gives({"revoked": bool}, {"revoked": True}),
)
async def logout(who: Leaving, parts: Shared) -> Response:
    """Revoke the token that the request carries."""
    await to_thread.run_sync(parts.services.access.tokens.revoke, who, who.token or "")
    return answer({"revoked": True})


@router.post(
    rest.REFRESH,
    summary="Get a fresh token",
    responses=gives(ISSUED_SHAPE, ISSUED),
)
async def refresh(who: Refreshing, parts: Shared) -> Response:
    """
    Answer with a token that lasts as long again, with the same limits.

    The old one stays good until it expires. An attempt's token is exchanged when it has expired.
    """
    return issued(await to_thread.run_sync(parts.services.access.tokens.refresh, who))


@router.post(
    rest.TOKEN_EXCHANGE,
    summary="Exchange an expired attempt token",
    responses=gives({"token": str}, {"token": _JWT}),
    dependencies=[open_route("it takes a token that has expired, and checks it itself")],
)
async def exchange(token: Token, parts: Shared) -> Response:
    """
    Answer with a fresh token of the same attempt.

    The bearer is the old token, expired at most 30 days ago: late results still arrive.
    """
    fresh = await to_thread.run_sync(parts.services.access.exchange, token or "")
    return answer({"token": fresh}, headers={"Cache-Control": "no-store"})
