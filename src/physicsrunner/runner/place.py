"""
The place of an attempt among those of its process: the slot and the resources of its program.

Whoever carries out one attempt alone has no such thing. An agent gives each of its attempts one
(`agent.places`); the attempt waits for it before its program starts, and leaves it when only the
delivery of its files is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

PATIENCE_S: Final = 2.0  #: then a run goes back to the queue: others may have what it waits for


class Place(Protocol):
    """A place that an attempt has, waits for, or has left. Any thread may call."""

    @property
    def taken(self) -> bool:
        """Whether the program may start."""
        ...

    def when_taken(self, call: Callable[[], None]) -> None:
        """Call *call* when the place is taken, from any thread; at once when it is already."""
        ...

    def give_up(self) -> bool:
        """Wait no more; False: it has just been taken."""
        ...

    def leave(self) -> None:
        """Give it to others: the program has ended and nothing more is made of its files."""
        ...
