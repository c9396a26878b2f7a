"""
Tickets: signed texts by which one file can be fetched, without any other token, for some minutes.

Promises: a ticket names one file and who asked for it, and nothing else can be done with it: it is
no token, and no token is a ticket. One that does not verify raises `NotAuthenticated`, an expired
one `TokenExpired`. Pure: the key and the time are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import jwt

from physicsrunner.errors import InvalidRequest, NotAuthenticated, TokenExpired
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.tokens import ALGORITHM

#: Where a token has its kind; none of `tokens.KINDS`.
_KIND: Final = "file"


@dataclass(frozen=True)
class Ticket:
    """One file, for whom, and until when."""

    bearer: str  #: the kind of the caller's token: user, agent or attempt
    subject: str
    expires: float  #: POSIX seconds
    path: str  #: of the file: below its attempt, or in its model's bundle
    run: str | None = None
    attempt: int | None = None
    model: str | None = None  #: of a file of a model
    version: str | None = None
    of_run: str | None = None  #: an attempt's token: of which run
    of_attempt: int | None = None


def issue(key: str, ticket: Ticket) -> str:
    """Return *ticket* as a signed text that can stand in an address."""
    return jwt.encode({"kind": _KIND, **encode(ticket)}, key, algorithm=ALGORITHM)


def verify(key: str, text: str, *, now: float) -> Ticket:
    """Return the ticket that *text* is if *key* signed it and it has not expired."""
    try:
        claims = jwt.decode(text, key, algorithms=[ALGORITHM], options={"verify_exp": False})
        if claims.pop("kind", None) != _KIND:
            raise InvalidRequest("a token")
        ticket = decode(Ticket, claims)
    except (jwt.PyJWTError, InvalidRequest, ValueError):
        raise NotAuthenticated(
            "the grant is not one of this server's; ask for a fresh one"
        ) from None
    if now > ticket.expires:
        raise TokenExpired("the grant has expired; ask for another")
    return ticket
