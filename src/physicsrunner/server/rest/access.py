"""Tokens: who am I, and a fresh one for an expired attempt token."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Response

from physicsrunner.server.auth import Caller, Token
from physicsrunner.server.bodies import answer
from physicsrunner.server.openapi import gives
from physicsrunner.server.parts import Shared
from physicsrunner.wire import rest

router = APIRouter(tags=["access"])

_WHO = {"kind": "user", "subject": "admin", "role": "admin"}


@router.get(
    rest.WHOAMI,
    summary="Who the token says I am",
    responses=gives({"kind": str, "subject": str, "role": str, "run": str, "attempt": int}, _WHO),
)
async def whoami(who: Caller) -> Response:
    """Answer with kind, subject, role, and the run of an attempt's token."""
    found = {
        "kind": who.kind,
        "subject": who.subject,
        "role": who.role,
        "run": who.run,
        "attempt": who.attempt,
    }
    return answer({name: value for name, value in found.items() if value is not None})


@router.post(
    rest.TOKEN_EXCHANGE,
    summary="Exchange an expired attempt token",
    responses=gives({"token": str}, {"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}),
)
async def exchange(token: Token, parts: Shared) -> Response:
    """
    Answer with a fresh token of the same attempt.

    The bearer is the old token, expired at most 30 days ago: late results still arrive.
    """
    access = parts.services.access
    return answer({"token": await to_thread.run_sync(access.exchange, token or "")})
