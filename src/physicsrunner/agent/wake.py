"""
Hearing of new work and of commands at once, over socket.io.

Only hints: the agent polls besides, and the heartbeat brings the same commands.

Promises: unreachable, it costs nothing but time; it never raises and nobody waits for it; `close`
ends its threads without waiting for the other side.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import socketio

from physicsrunner.client.trust import websocket_options
from physicsrunner.wire import live

_AGAIN_S: Final = 10.0  # between two tries to connect
_CONNECT_S: Final = 5
#: A run's own commands; all others are the agent's.
_OF_RUNS: Final = frozenset({"cancel", "pause", "resume"})


class Wake:
    """
    Calls *on_work* when there may be work, and *on_command* with run, attempt and command.

    Whatever else the server says to this agent calls *on_news*: the next heartbeat brings it.
    """

    def __init__(
        self,
        server: str,
        token: str,
        agent: str,
        log: logging.Logger,
        *,
        on_work: Callable[[], None],
        on_command: Callable[[str, int, str], None],
        on_news: Callable[[], None],
    ) -> None:
        self._server = server
        self._token = token
        self._agent = agent
        self._on_work = on_work
        self._on_command = on_command
        self._on_news = on_news
        self._log = log
        self._closed = threading.Event()
        self._client = socketio.Client(
            reconnection=True,
            reconnection_delay_max=10,
            websocket_extra_options=websocket_options(),
        )
        self._client.on("connect", self._connected)
        self._client.on(live.COMMAND, self._commanded)
        self._thread = threading.Thread(target=self._connect, name="wake", daemon=True)

    def start(self) -> None:
        """Connect, now or when the server is there."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect and end the threads."""
        self._closed.set()
        self._client.reconnection = False
        self._hang_up()
        with contextlib.suppress(OSError):
            self._client.shutdown()
        if self._thread.is_alive():
            self._thread.join(_CONNECT_S + 5.0)
            self._hang_up()
        for task in (self._client.eio.read_loop_task, self._client.eio.write_loop_task):
            if task is not None and task is not threading.current_thread():
                task.join(5.0)

    def _connect(self) -> None:
        said = False
        while not self._closed.is_set():
            try:
                self._client.connect(
                    self._server,
                    auth={"token": self._token},
                    transports=["websocket"],
                    socketio_path=live.SOCKETIO_PATH.strip("/"),
                    wait_timeout=_CONNECT_S,
                )
                return  # from now on the library connects again by itself
            except (socketio.exceptions.SocketIOError, ValueError, OSError) as error:
                if not said:
                    self._log.info("no live connection; asking now and then instead: %s", error)
                said = True
            self._closed.wait(_AGAIN_S)

    def _hang_up(self) -> None:
        # The library would wait until the server ends the connection: up to 20 s.
        socket = self._client.eio.ws
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.abort()

    def _connected(self) -> None:
        self._client.emit(live.SUBSCRIBE, {"room": f"agent:{self._agent}"})
        self._on_work()

    def _commanded(self, message: Any) -> None:
        if self._closed.is_set() or not isinstance(message, dict):
            return
        command, run = message.get("command"), message.get("run")
        if command == live.WORK:
            self._on_work()
        elif command in _OF_RUNS and isinstance(run, str):
            attempt = message.get("attempt")
            self._on_command(run, attempt if isinstance(attempt, int) else 0, str(command))
        else:
            self._on_news()
