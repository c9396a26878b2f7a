"""
From the publishing threads of the service to the event loop.

Promises: events reach the listeners in the order in which they were published, on the event loop;
publishing never waits for a listener. Log texts of one file that follow each other are joined, and
deliveries are at least `gap_s` apart, so that a burst of lines is a few messages.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from physicsrunner.wire import live
from physicsrunner.wire.live import Event

Listener = Callable[[Sequence[Event]], None]


class Hub:
    """One for each server; made on its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, gap_s: float = 0.005) -> None:
        self._loop = loop
        self._gap_s = gap_s
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._scheduled = False
        self._closed = False
        self._last = 0.0
        self._listeners: list[Listener] = []
        self._watchers: dict[str, set[asyncio.Event]] = {}

    def publish(self, events: Sequence[Event]) -> None:
        """Take *events*; called from any thread."""
        with self._lock:
            if self._closed:
                return
            self._waiting.extend(events)
            if self._scheduled:
                return
            self._scheduled = True
            # Under the lock: close() must not slip in between and close the loop.
            self._loop.call_soon_threadsafe(self._schedule)

    def close(self) -> None:
        """Take nothing more, and wake everybody who waits."""
        with self._lock:
            self._closed = True
        for waiting in self._watchers.values():
            for event in waiting:
                event.set()

    @property
    def closed(self) -> bool:
        """Whether the server is going down."""
        return self._closed

    def listen(self, listener: Listener) -> None:
        """Call *listener* on the event loop with all events from now on. It must be quick."""
        self._listeners.append(listener)

    @contextmanager
    def watch(self, run: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something happens to *run*; the user clears it."""
        changed = asyncio.Event()
        self._watchers.setdefault(run, set()).add(changed)
        try:
            yield changed
        finally:
            watchers = self._watchers[run]
            watchers.discard(changed)
            if not watchers:
                del self._watchers[run]

    def _schedule(self) -> None:
        wait = self._last + self._gap_s - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._deliver)
        else:
            self._deliver()

    def _deliver(self) -> None:
        with self._lock:
            events = tuple(self._waiting)
            self._waiting.clear()
            self._scheduled = False
        self._last = self._loop.time()
        if not events:
            return
        for run in {event.run for event in events if event.run is not None}:
            for changed in self._watchers.get(run, ()):
                changed.set()
        joined = join_logs(events)
        for listener in self._listeners:
            listener(joined)


def join_logs(events: Sequence[Event]) -> list[Event]:
    """Join log events of one file whose texts follow each other; keep the order of the rest."""
    joined: list[Event] = []
    last: dict[tuple[str | None, int | None, object], tuple[int, int]] = {}
    for event in events:
        if event.type != live.LOG:
            joined.append(event)
            if event.id is not None:
                last.clear()  # a log line must not move before a fact that came before it
            continue
        key = (event.run, event.attempt, event.data.get("path"))
        end = _end(event)
        place = last.get(key)
        if place is not None and end is not None and place[1] == event.data.get("offset"):
            before = joined[place[0]]
            text = f"{before.data['text']}{event.data['text']}"
            joined[place[0]] = replace(before, data={**before.data, "text": text})
            last[key] = (place[0], end)
        else:
            joined.append(event)
            if end is not None:
                last[key] = (len(joined) - 1, end)
    return joined


def _end(event: Event) -> int | None:
    """Return the offset behind a log event's bytes; None when it cannot be told."""
    offset, text = event.data.get("offset"), event.data.get("text")
    if not isinstance(offset, int) or not isinstance(text, str) or "\ufffd" in text:
        return None
    return offset + len(text.encode(errors="surrogatepass"))
