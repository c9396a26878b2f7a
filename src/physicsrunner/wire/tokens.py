"""
Tokens: signed JWTs (HS256) of three kinds. The key and the time are arguments.

- ``user``: a person; carries the role.
- ``agent``: an enrolled agent; its subject is the agent's id.
- ``attempt``: one attempt of one run; can touch that run alone.

Promises: a token that does not verify raises `NotAuthenticated`, an expired one `TokenExpired`
(`allow_expired_s` admits it for the exchange). A token's text never appears in an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jwt

from physicsrunner.errors import NotAuthenticated, TokenExpired

ALGORITHM: Final = "HS256"
KINDS: Final = ("user", "agent", "attempt")
EXCHANGE_S: Final = 30 * 24 * 3600.0  # an expired attempt token can be exchanged so long


@dataclass(frozen=True)
class Claims:
    """What a token says of its bearer."""

    kind: str
    subject: str  #: user name, or the agent's id
    issued: float  #: POSIX seconds
    expires: float | None = None
    role: str | None = None  #: user tokens
    run: str | None = None  #: attempt tokens
    attempt: int | None = None
    token_id: str | None = None


def issue(key: str, claims: Claims) -> str:
    """Return a signed token that carries *claims*."""
    payload: dict[str, Any] = {"kind": claims.kind, "sub": claims.subject, "iat": claims.issued}
    optional = {
        "exp": claims.expires,
        "role": claims.role,
        "run": claims.run,
        "attempt": claims.attempt,
        "jti": claims.token_id,
    }
    payload.update({name: value for name, value in optional.items() if value is not None})
    return jwt.encode(payload, key, algorithm=ALGORITHM)


def verify(key: str, token: str, *, now: float, allow_expired_s: float = 0.0) -> Claims:
    """
    Return the claims of *token* if *key* signed it and it has not expired.

    *allow_expired_s* admits a token that expired at most so many seconds before *now*.
    """
    try:
        payload = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            # The time is an argument: PyJWT would read the clock itself.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        claims = Claims(
            kind=payload["kind"],
            subject=payload["sub"],
            issued=float(payload["iat"]),
            expires=payload.get("exp"),
            role=payload.get("role"),
            run=payload.get("run"),
            attempt=payload.get("attempt"),
            token_id=payload.get("jti"),
        )
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise NotAuthenticated("the token is not one of this server's") from None
    if claims.kind not in KINDS:
        raise NotAuthenticated("the token is of an unknown kind")
    if claims.expires is not None and now > claims.expires + allow_expired_s:
        raise TokenExpired("the token has expired")
    return claims
