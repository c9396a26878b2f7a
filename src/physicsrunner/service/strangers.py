"""
Names that nobody has, as they are tried at the login.

Promises: they are locked out as people are, so that the answer does not tell who is there; nothing
of it is stored, and memory stays bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from physicsrunner.store.accounts import UserRow

_MOST: Final = 10_000  # names remembered
_LONGEST: Final = 65  # characters: nobody's name is as long


class Strangers:
    """Counts tries of names that nobody has. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, UserRow] = OrderedDict()

    def row(self, name: str) -> UserRow:
        """Return how a name stands, as if somebody had it."""
        key = name[:_LONGEST]
        with self._lock:
            return self._rows.get(key) or UserRow(key, 0.0)

    def change(self, name: str, work: Callable[[UserRow], UserRow]) -> UserRow:
        """Keep what *work* makes of how a name stands; return it."""
        key = name[:_LONGEST]
        with self._lock:
            row = self._rows[key] = work(self._rows.get(key) or UserRow(key, 0.0))
            self._rows.move_to_end(key)
            while len(self._rows) > _MOST:
                self._rows.popitem(last=False)
            return row
