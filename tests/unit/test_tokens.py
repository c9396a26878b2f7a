"""Tokens: three kinds, one key, no clock of their own."""

from __future__ import annotations

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.errors import NotAuthenticated, TokenExpired
from physicsrunner.wire.tokens import ALGORITHM, EXCHANGE_S, KINDS, Claims, issue, verify

KEY = "a key of sixty-four bytes at least, so that no algorithm complains of it"
ATTEMPT = Claims("attempt", "agent-1", issued=1000.0, expires=2000.0, run="r", attempt=1)


@given(
    claims=st.builds(
        Claims,
        kind=st.sampled_from(KINDS),
        subject=st.text(max_size=20),
        issued=st.floats(0, 4e9),
        expires=st.none() | st.floats(5e9, 6e9),
        role=st.none() | st.sampled_from(["viewer", "admin"]),
        run=st.uuids().map(str),
        attempt=st.integers(1, 99),
        token_id=st.none() | st.text(max_size=8),
    )
)
def test_a_token_carries_its_claims(claims: Claims) -> None:
    """What was signed is what verifies, at any time before it expires."""
    assert verify(KEY, issue(KEY, claims), now=4.5e9) == claims


def test_expiry_is_by_the_given_time() -> None:
    """At its deadline a token is good, after it expired, and can be exchanged for 30 days."""
    token = issue(KEY, ATTEMPT)
    assert verify(KEY, token, now=2000.0) == ATTEMPT
    with pytest.raises(TokenExpired):
        verify(KEY, token, now=2000.1)
    late = 2000.0 + EXCHANGE_S
    assert verify(KEY, token, now=late, allow_expired_s=EXCHANGE_S) == ATTEMPT
    with pytest.raises(TokenExpired):
        verify(KEY, token, now=late + 1, allow_expired_s=EXCHANGE_S)


def _signed(payload: dict[str, object], key: str = KEY, algorithm: str = ALGORITHM) -> str:
    return jwt.encode(payload, key, algorithm=algorithm)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "abc",
        "a.b.c",
        "\N{WAVING HAND SIGN}",
        "ü.ü.ü",
        issue(KEY + "another", ATTEMPT),
        issue(KEY, ATTEMPT)[:-2],
        _signed({"kind": "attempt", "sub": "a", "iat": 1}, "", "none"),
        _signed({"kind": "root", "sub": "a", "iat": 1}),
        _signed({"sub": "a", "iat": 1}),
        _signed({"kind": "user", "iat": 1}),
        _signed({"kind": "user", "sub": "a"}),
        _signed({"kind": "user", "sub": "a", "iat": "soon"}),
        _signed({"kind": ["user"], "sub": "a", "iat": 1}),
        _signed({"kind": "user", "sub": "a", "iat": 1, "exp": "later"}),
        _signed({"kind": "user", "sub": "a", "iat": 1, "exp": [1]}),
        _signed({"kind": "attempt", "sub": "a", "iat": 1}, algorithm="HS512"),
    ],
)
def test_what_is_not_ours_is_refused_without_its_text(token: str) -> None:
    """A foreign, cut, unsigned or ill-formed token raises `NotAuthenticated`, and is not shown."""
    with pytest.raises(NotAuthenticated) as caught:
        verify(KEY, token, now=1500.0)
    assert not token or token not in str(caught.value)


def test_an_attempt_token_names_its_run() -> None:
    """A token for an attempt without a run or number could touch anything: it is refused."""
    for payload in ({"run": "r"}, {"attempt": 1}, {"run": 5, "attempt": 1}):
        with pytest.raises(NotAuthenticated):
            verify(KEY, _signed({"kind": "attempt", "sub": "a", "iat": 1, **payload}), now=1.0)


def test_a_token_is_signed_as_the_library_signs() -> None:
    """What is issued quickly is byte for byte what PyJWT makes of the same claims."""
    issued = issue(KEY, Claims("attempt", "äda", 1.5, 2.5, run="r", attempt=1))
    payload = jwt.decode(issued, KEY, algorithms=[ALGORITHM], options={"verify_exp": False})
    assert payload == {
        "kind": "attempt",
        "sub": "äda",
        "iat": 1.5,
        "exp": 2.5,
        "run": "r",
        "attempt": 1,
    }
    assert issued == _signed(payload)
