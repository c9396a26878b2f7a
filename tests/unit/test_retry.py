"""Waits between tries: grow, stay bounded, honour the server, and spread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.core.retry import Backoff


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded_and_drawn_from_the_upper_half(tries: int, chance: float) -> None:
    """Whatever the number of tries, the wait lies between half its top and its top."""
    backoff = Backoff(base=0.25, cap=30.0)
    wait = backoff.wait(tries, random=lambda: chance)
    top = min(30.0, 0.25 * 2.0 ** min(tries - 1, 100))
    assert top / 2 <= wait < top or wait == top


def test_waits_grow_until_the_cap() -> None:
    """The first waits double, and none is over the cap."""
    waits = [Backoff(base=1.0, cap=8.0).wait(n, random=lambda: 0.0) for n in range(1, 7)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_retry_after_is_a_lower_bound() -> None:
    """The server's wish is honoured, also over the cap; a shorter one shortens nothing."""
    backoff = Backoff(base=1.0, cap=8.0)
    assert backoff.wait(1, random=lambda: 0.0, retry_after=60.0) == 60.0
    assert backoff.wait(4, random=lambda: 0.0, retry_after=0.1) == 4.0
    assert backoff.wait(4, random=lambda: 0.0, retry_after=0.0) == 4.0
