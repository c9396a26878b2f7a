"""
The feed: who hears of what happens, at once.

Promises: `publish` calls every subscriber in the publishing thread, in the order of subscription;
what is written to the event log is published in the log's order (the store is the publisher). One
subscriber's fault is logged and harms no other, and never the change that was made. Nothing is
kept: what was missed is read from the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from physicsrunner.wire.live import Event

Subscriber = Callable[[Sequence[Event]], None]


class Feed:
    """A list of subscribers. Thread-safe."""

    def __init__(self, log: logging.Logger | None = None) -> None:
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._subscribers: tuple[Subscriber, ...] = ()

    def publish(self, events: Sequence[Event]) -> None:
        """Tell *events* to all subscribers."""
        if not events:
            return
        for subscriber in self._subscribers:
            try:
                subscriber(events)
            except Exception:
                self._log.exception("a subscriber of the live feed failed; the others go on")

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """
        Have *callback* called with every batch of events; return what ends that.

        It is called in the publishing thread, which may hold the turn to write to the database:
        it must be quick and must not call a service.
        """
        with self._lock:
            self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(
                    item for item in self._subscribers if item is not callback
                )

        return unsubscribe
