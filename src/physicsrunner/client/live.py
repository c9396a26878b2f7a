"""
The live feed of a run, as an iterator.

Promises: after a lost connection it subscribes again with the last event it has seen, so that no
logged event is missed, and passes none on twice; live samples (progress, log lines, series) of the
gap are gone. `close` ends the iterator, from any thread. Bounded memory: a reader that does not
read loses samples, never logged events.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from physicsrunner.client.trust import websocket_options
from physicsrunner.errors import NotAllowed, NotAuthenticated, ServerUnavailable, TokenExpired
from physicsrunner.wire.live import EVENT, SOCKETIO_PATH, SUBSCRIBE, Event

_CONNECT_S: Final = 10.0
_WAITING: Final = 10_000  # samples kept for a slow reader
_CLOSED: Final = object()


class Feed:
    """
    Events of one room; iterate over it, in a ``with`` block.

    Parameters
    ----------
    url, token
        The server, and who asks.
    room
        ``run:ID`` or ``all``.
    after
        Begin with the logged events behind this id; None: with what happens from now on.

    Raises
    ------
    ServerUnavailable
        If nobody answers at the start. Later cuts are mended in silence.
    NotAuthenticated, NotAllowed
        If the token is not good for this room.
    """

    def __init__(self, url: str, token: str | None, room: str, *, after: int | None = None) -> None:
        # A fifth of a second: only who listens pays for it.
        import socketio

        self._room = room
        self._last = after
        self._queue: queue.Queue[Any] = queue.Queue()
        self._answered = threading.Event()
        self._refused: str | None = None
        self._problem: Mapping[str, Any] = {}
        self._closing = False
        self._client = socketio.Client(
            reconnection=True,
            reconnection_delay=0.5,
            reconnection_delay_max=5.0,
            logger=False,
            websocket_extra_options=websocket_options(),
        )
        self._client.on("connect", self._subscribe)
        self._client.on("connect_error", self._not_connected)
        self._client.on("disconnect", self._cut)
        self._client.on(EVENT, self._take)
        try:
            self._client.connect(
                url,
                auth={"token": token or ""},
                socketio_path=SOCKETIO_PATH.strip("/"),
                transports=["websocket"],
                wait_timeout=_CONNECT_S,
            )
        except socketio.exceptions.ConnectionError as error:
            self.close()
            raise self._reason(url, str(error)) from None
        if not self._answered.wait(_CONNECT_S) or self._refused:
            self.close()
            if self._refused:
                raise NotAllowed(f"{room}: {self._refused}")
            raise ServerUnavailable(f"{url}: no answer to the subscription to {room}")

    def __enter__(self) -> Feed:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next()) is not None:
            yield event

    def next(self, timeout: float | None = None) -> Event | None:
        """Return the next event; None when the feed is closed or *timeout* seconds have passed."""
        try:
            event = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if event is _CLOSED:
            self._queue.put(_CLOSED)  # for every other reader
            return None
        found: Event = event
        return found

    def close(self) -> None:
        """End the feed and its threads."""
        self._closing = True
        self._client.reconnection = False
        # The library would wait until the server ends the connection: up to 20 s.
        self._hang_up()
        with contextlib.suppress(OSError):
            self._client.shutdown()
        for task in (self._client.eio.read_loop_task, self._client.eio.write_loop_task):
            if task is not None and task is not threading.current_thread():
                task.join(5.0)
        self._queue.put(_CLOSED)

    def _not_connected(self, data: Any = None) -> None:
        problem = data.get("data") if isinstance(data, dict) else None
        self._problem = problem if isinstance(problem, dict) else {}

    def _cut(self, *_: Any) -> None:
        # The library forgets a connection that the other side ended, and leaves its socket open.
        socket = self._client.eio.ws
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.shutdown()

    def _hang_up(self) -> None:
        socket = self._client.eio.ws
        if socket is not None:
            socket.abort()

    def _reason(self, url: str, text: str) -> Exception:
        told = str(self._problem.get("detail") or text)
        kinds = {kind.code: kind for kind in (NotAuthenticated, TokenExpired, NotAllowed)}
        kind = kinds.get(str(self._problem.get("code")), ServerUnavailable)
        return kind(f"{url}: {told}")

    def _subscribe(self) -> None:
        request: dict[str, Any] = {"room": self._room}
        if self._last is not None:
            request["after"] = self._last
        self._client.emit(SUBSCRIBE, request, callback=self._subscribed)

    def _subscribed(self, answer: Any = None) -> None:
        if not isinstance(answer, dict) or not answer.get("ok"):
            told = answer.get("error") if isinstance(answer, dict) else None
            detail = told.get("detail") if isinstance(told, dict) else told
            self._refused = str(detail or "the server refused the subscription")
        self._answered.set()

    def _take(self, envelope: Any) -> None:
        event = read_event(envelope)
        if event is None or self._closing:
            return
        if event.id is not None:
            if self._last is not None and event.id <= self._last:
                return  # seen before the cut
            self._last = event.id
        elif self._queue.qsize() >= _WAITING:
            return
        self._queue.put(event)


def read_event(envelope: Any) -> Event | None:
    """Return the event in *envelope*; None for something that this version does not know."""
    if not isinstance(envelope, dict) or not isinstance(envelope.get("type"), str):
        return None
    number, data = envelope.get("id"), envelope.get("data")
    return Event(
        type=envelope["type"],
        run=envelope.get("run"),
        attempt=envelope.get("attempt"),
        project=envelope.get("project"),
        time=float(envelope.get("time") or 0.0),
        data=data if isinstance(data, dict) else {},
        id=number if isinstance(number, int) else None,
    )
