"""
From the publishing threads of the service to the event loop.

Promises: events reach the listeners in the order in which they were published, on the event loop;
publishing never waits for a listener. A live sample that nobody listens for ends where it was
published, for the price of a look. Log texts of one file that follow each other are joined, and
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
Wanted = Callable[[Event], bool]


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
        self._wanted: list[Wanted] = []
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._logged: dict[asyncio.Event, Wanted] = {}

    def publish(self, events: Sequence[Event]) -> None:
        """Take *events*; called from any thread."""
        # A look without the lock: who enters a room at this very moment hears of the next sample.
        kept = [event for event in events if event.id is not None or self._is_wanted(event)]
        if not kept:
            return
        with self._lock:
            if self._closed:
                return
            self._waiting.extend(kept)
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
        for event in self._logged:
            event.set()

    @property
    def closed(self) -> bool:
        """Whether the server is going down."""
        return self._closed

    def listen(self, listener: Listener, wanted: Wanted | None = None) -> None:
        """
        Call *listener* on the event loop with all logged events from now on. It must be quick.

        Of live samples it gets those that *wanted* asks for (and what others ask for, too);
        *wanted* is called in the publishing threads. None: all.
        """
        self._listeners.append(listener)
        self._wanted.append(wanted or (lambda _event: True))

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

    @contextmanager
    def watch_log(self, wanted: Wanted) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the log gets one that is *wanted*."""
        changed = asyncio.Event()
        self._logged[changed] = wanted
        try:
            yield changed
        finally:
            del self._logged[changed]

    def _is_wanted(self, event: Event) -> bool:
        if event.run in self._watchers:
            return True
        return any(wanted(event) for wanted in self._wanted)

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
        # Often nobody watches and nothing is a log: then ten thousand events cost a look each.
        if self._watchers:
            for run in {event.run for event in events if event.run in self._watchers}:
                for changed in self._watchers.get(run or "", ()):
                    changed.set()
        if self._logged:
            logged = [event for event in events if event.id is not None]
            for changed, wanted in self._logged.items():
                if not changed.is_set() and any(wanted(event) for event in logged):
                    changed.set()
        joined = join_logs(events)
        for listener in self._listeners:
            listener(joined)


def join_logs(events: Sequence[Event]) -> list[Event]:
    """Join log events of one file whose texts follow each other; keep the order of the rest."""
    if all(event.type != live.LOG for event in events):
        return list(events)
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
