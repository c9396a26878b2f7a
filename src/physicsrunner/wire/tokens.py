"""
Tokens: signed JWTs (HS256) of four kinds. The key and the time are arguments.

- ``user``: a person; carries the role.
- ``agent``: an enrolled agent; its subject is the agent's id.
- ``attempt``: one attempt of one run; can touch that run alone.
- ``enroll``: good for one thing once: to enroll an agent.

Promises: a token that does not verify raises `NotAuthenticated`, an expired one `TokenExpired`
(`allow_expired_s` admits it for the exchange). A token's text never appears in an error.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from typing import Final

import jwt

from physicsrunner.errors import InvalidRequest, NotAuthenticated, TokenExpired
from physicsrunner.wire.codec import decode, encode

ALGORITHM: Final = "HS256"
KINDS: Final = ("user", "agent", "attempt", "enroll")
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
    #: Of a user's token, for applications that verify it by the key alone: permissions and the
    #: project that it is confined to. The server itself goes by its tables.
    scopes: list[str] | None = None
    project: str | None = None


#: Claims -> names of the JWT (RFC 7519 has short ones for some).
_NAMES: Final = {
    "kind": "kind",
    "subject": "sub",
    "issued": "iat",
    "expires": "exp",
    "role": "role",
    "run": "run",
    "attempt": "attempt",
    "token_id": "jti",
    "scopes": "scopes",
    "project": "project",
}
_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


def issue(key: str, claims: Claims) -> str:
    """Return a signed token that carries *claims*."""
    payload = {_NAMES[name]: value for name, value in encode(claims).items()}
    text = json.dumps(payload, separators=(",", ":")).encode()
    signed = _HEADER + b"." + _base64(text)
    # With every lease: PyJWT's `encode` reads and prepares the key each time, ten times the price.
    signature = hmac.digest(key.encode(), signed, "sha256")
    return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


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
        named = {name: payload[key] for name, key in _NAMES.items() if key in payload}
        claims = decode(Claims, named)
    except (jwt.PyJWTError, InvalidRequest, ValueError):
        raise NotAuthenticated("the token is not one of this server's") from None
    if claims.kind not in KINDS:
        raise NotAuthenticated("the token is of an unknown kind")
    if claims.kind == "attempt" and (claims.run is None or claims.attempt is None):
        raise NotAuthenticated("the token names no attempt")
    if claims.expires is not None and now > claims.expires + allow_expired_s:
        raise TokenExpired("the token has expired")
    return claims
