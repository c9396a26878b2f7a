"""Whether bodies are compressed: what the line and the server showed decides."""

from __future__ import annotations

from physicsrunner.client.compress import LineSpeed

MB = 1_000_000


def test_compression_that_brought_nothing_is_left_for_a_while() -> None:
    """Behind a busy server a compressed body is no faster, and the next ones go as they are."""
    speed = LineSpeed()
    speed.measured(8 * MB, 0.4)
    assert speed.worth_trying()

    speed.compressed(8 * MB, 0.4)

    tries = [speed.worth_trying() for _ in range(100)]
    assert not any(tries[:99])
    assert tries[99]


def test_compression_that_was_faster_goes_on() -> None:
    """On a slow line the compressed body carried more bytes a second."""
    speed = LineSpeed()
    speed.measured(8 * MB, 8.0)

    speed.compressed(8 * MB, 2.0)

    assert speed.worth_trying()
