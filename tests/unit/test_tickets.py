"""Tickets: one file, for some minutes."""

from __future__ import annotations

from dataclasses import asdict, replace

import jwt
import pytest

from physicsrunner.errors import NotAuthenticated, TokenExpired
from physicsrunner.wire import tickets, tokens
from physicsrunner.wire.tickets import Ticket

KEY = "k" * 32
TICKET = Ticket("user", "ada", 100.0, "logs/a b.log", run="r", attempt=2)


def test_what_was_issued_is_read_again() -> None:
    """Until its time is over, with every field."""
    for ticket in (TICKET, replace(TICKET, run=None, attempt=None, model="m", version="v")):
        text = tickets.issue(KEY, ticket)
        assert tickets.verify(KEY, text, now=100.0) == ticket
        with pytest.raises(TokenExpired):
            tickets.verify(KEY, text, now=100.5)


def test_nothing_else_is_a_ticket() -> None:
    """Of another key, changed, a token, or a signed text of another kind with the same fields."""
    good = tickets.issue(KEY, TICKET)
    other = jwt.encode({**asdict(TICKET), "kind": "user"}, KEY, algorithm="HS256")
    unsigned = jwt.encode({**asdict(TICKET), "kind": "file"}, "", algorithm="none")
    token = tokens.issue(KEY, tokens.Claims("user", "ada", 0.0))
    for bad in ("", "x", good[:-2], good + "x", other, unsigned, token):
        with pytest.raises(NotAuthenticated):
            tickets.verify(KEY, bad, now=0.0)
    with pytest.raises(NotAuthenticated):
        tickets.verify("q" * 32, good, now=0.0)


def test_a_ticket_is_no_token() -> None:
    """Nobody is let in by it."""
    with pytest.raises(NotAuthenticated):
        tokens.verify(KEY, tickets.issue(KEY, TICKET), now=0.0)
