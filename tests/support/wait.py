"""Waiting for a condition with a deadline. No test sleeps for a while and hopes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    timeout: float = 30.0,
    on_timeout: str | Callable[[], object] = "",
    interval: float = 0.02,
) -> T:
    """
    Return the first truthy value of *condition*, asked every *interval* seconds.

    After *timeout* seconds the test fails and says *on_timeout* (a text, or a function that tells
    the last state) and the last value.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            story = on_timeout() if callable(on_timeout) else on_timeout
            raise AssertionError(f"not within {timeout} s (last value {value!r}): {story}")
        pause.wait(interval)
