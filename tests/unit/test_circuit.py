"""The circuit breaker: when it opens, who may try again, and what closes it."""

from __future__ import annotations

import threading

import pytest

from physicsrunner.errors import NotFound, ServerUnavailable
from physicsrunner.service.circuit import LONGEST_S, Circuit


class Bench:
    """A circuit of three failures and ten seconds, and a clock."""

    def __init__(self) -> None:
        self.time = 100.0
        self.circuit = Circuit(self._refusal, limit=3, wait_s=10.0, now=lambda: self.time)

    def _refusal(self, last: str, left: float) -> ServerUnavailable:
        error = ServerUnavailable(f"refused: {last}")
        error.retry_after = left
        return error

    def fail(self, retry_after: float | None = None) -> None:
        """Have one call fail because the other side is away."""
        error = ServerUnavailable("away")
        error.retry_after = retry_after
        with pytest.raises(ServerUnavailable, match=r"^away$"), self.circuit.closed():
            raise error

    def answer(self) -> None:
        """Have one call succeed."""
        with self.circuit.closed():
            return

    def refused(self) -> float | None:
        """Have one call refused; return the seconds that it is told."""
        with (
            pytest.raises(ServerUnavailable, match="refused: away") as told,
            self.circuit.closed(),
        ):
            pytest.fail("the other side was asked")
        return told.value.retry_after


def test_it_opens_after_failures_in_a_row() -> None:
    """Three in a row; an answer in between, also a no, begins the count again."""
    bench = Bench()
    for _ in range(2):
        bench.fail()
    bench.answer()
    bench.fail()
    with pytest.raises(NotFound), bench.circuit.closed():
        raise NotFound("no")
    for _ in range(3):
        bench.fail()
    assert bench.refused() == 10.0
    bench.time += 4
    assert bench.refused() == 6.0


def test_after_the_wait_one_may_try() -> None:
    """While it tries the others are refused; if it fails all wait again, if not all may ask."""
    bench = Bench()
    for _ in range(3):
        bench.fail()
    bench.time += 10
    inside, go = threading.Event(), threading.Event()

    def trial() -> None:
        with bench.circuit.closed():
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=trial)
    thread.start()
    assert inside.wait(10)
    assert bench.refused() == 1.0
    go.set()
    thread.join()
    bench.answer()
    for _ in range(3):
        bench.fail()
    bench.time += 10
    bench.fail()
    assert bench.refused() == 10.0


def test_it_waits_as_long_as_was_asked() -> None:
    """Retry-After of the last failure counts, where it is longer, and up to a minute."""
    for asked, left in ((5.0, 0.0), (45.0, 15.0), (86_400.0, LONGEST_S - 30.0)):
        bench = Bench()
        for _ in range(3):
            bench.fail(retry_after=asked)
        bench.time += 30
        if left:
            assert bench.refused() == left
        else:
            bench.answer()


def test_a_fault_of_ours_keeps_nobody_out() -> None:
    """A trial that ends by any other error does not leave the circuit half open for ever."""
    bench = Bench()
    for _ in range(3):
        bench.fail()
    bench.time += 10
    with pytest.raises(ZeroDivisionError), bench.circuit.closed():
        raise ZeroDivisionError
    bench.answer()
