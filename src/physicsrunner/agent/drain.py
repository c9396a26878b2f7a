"""
How an agent ends: first politely, then at once.

Promises: the first signal asks, the second leaves; handlers do nothing but pass the number on to a
thread, because a handler that takes a lock can wait for itself. Before and after the block the
process's handlers are as they were.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class OnTerm(Enum):
    """What becomes of running attempts when the agent is to end."""

    FINISH = "finish"  #: they run to their end
    HAND_BACK = "hand-back"  #: their programs are stopped, their runs go to other agents


@contextmanager
def ended_by_signals(first: Callable[[int], None], second: Callable[[int], None]) -> Iterator[None]:
    """Call *first* at the first SIGTERM or SIGINT, *second* at each one after it."""
    numbers: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def pass_on() -> None:
        asked = False
        while (number := numbers.get()) is not None:
            (second if asked else first)(number)
            asked = True

    thread = threading.Thread(target=pass_on, name="signals", daemon=True)
    thread.start()
    before = {
        number: signal.signal(number, lambda found, _frame: numbers.put(found))
        for number in _SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        numbers.put(None)
        thread.join()
