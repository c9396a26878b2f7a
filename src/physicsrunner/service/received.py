"""
How far those who are told of the log have it: what may be removed from it, and what still waits.

Promises: an event waits for every active webhook and for NATS (where the server is to tell it),
and for nobody longer than `WAIT_S` after it happened: a receiver that is away for ever, or fails
into its dead letters, does not keep the log for ever. A webhook that is switched off holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from physicsrunner.store.outbox import OutboxStore, Received

NATS: Final = "nats"  #: the name of that consumer in the table of cursors
WAIT_S: Final = 30 * 86_400.0


class Receivers:
    """Everybody to whom the server carries events. Thread-safe."""

    def __init__(
        self, store: OutboxStore, consumers: tuple[str, ...], *, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._consumers = consumers
        self._now = now

    def received(self) -> Received | None:
        """Return what all of them have; None: there is nobody to wait for."""
        cursors = [row.cursor for row in self._store.webhooks() if row.active]
        # One that has never been heard of gets all that is kept, and so has nothing yet.
        cursors += [self._store.cursor(name) or 0 for name in self._consumers]
        return Received(min(cursors), self._now() - WAIT_S) if cursors else None
