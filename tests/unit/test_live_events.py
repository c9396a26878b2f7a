"""Events that are made without their constructor are those that it would make."""

from __future__ import annotations

from physicsrunner.wire.live import Event, event_with, new_event


def test_a_quickly_made_event_is_the_one_of_the_constructor() -> None:
    """It has each field, and those that were not named as they are by default."""
    made = new_event("simulation/queued", "r", 1, "p", 2.0, {"number": 3})
    usual = Event("simulation/queued", "r", 1, "p", 2.0, {"number": 3})
    assert made == usual
    assert vars(made) == vars(usual)
    assert event_with(made, id=7, actor="ada") == event_with(usual, id=7, actor="ada")
