"""How often one address may try."""

from __future__ import annotations

import pytest

from physicsrunner.errors import TooManyTries
from physicsrunner.server import ratelimit
from physicsrunner.server.ratelimit import RateLimit


class Clock:
    """A clock that is moved by hand."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


def test_one_address_may_try_so_often() -> None:
    """What is over the limit is refused with the time to wait; other addresses are not held up."""
    clock = Clock()
    limit = RateLimit(clock, most=3, within_s=60)
    for _ in range(3):
        limit.take("192.0.2.1")
        clock.time += 10
    with pytest.raises(TooManyTries) as caught:
        limit.take("192.0.2.1")
    assert caught.value.retry_after == pytest.approx(30)
    limit.take("192.0.2.2")
    limit.take(None)
    clock.time += 30
    limit.take("192.0.2.1")
    with pytest.raises(TooManyTries):
        limit.take("192.0.2.1")


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses ask, few are remembered: the latest."""
    monkeypatch.setattr(ratelimit, "_MOST", 100)
    limit = RateLimit(Clock(), most=1)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._tries) == 100
    with pytest.raises(TooManyTries):
        limit.take("999")


def test_a_network_that_somebody_is_given_counts_as_one_address() -> None:
    """Of IPv6 a place has more addresses than there are tries; a mapped one is an IPv4 address."""
    limit = RateLimit(Clock(), most=1)
    limit.take("2001:db8:1:2::1")
    with pytest.raises(TooManyTries):
        limit.take("2001:db8:1:2:ffff::9")
    limit.take("2001:db8:1:3::1")
    limit.take("192.0.2.1")
    with pytest.raises(TooManyTries):
        limit.take("::ffff:192.0.2.1")
    limit.take("fe80::1%eth0")
    limit.take("no address")
