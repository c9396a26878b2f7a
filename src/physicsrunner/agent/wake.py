"""
Hearing of new work and of cancel requests at once, over socket.io.

Only hints: the agent polls besides, and the renewal of a lease brings the same commands.

Promises: `closed` or unreachable, it costs nothing but time; it never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import socketio

from physicsrunner.wire import live


class Wake:
    """Calls *on_work* when there may be work, and *on_cancel* with the run and attempt to stop."""

    def __init__(
        self,
        server: str,
        token: str,
        agent: str,
        log: logging.Logger,
        *,
        on_work: Callable[[], None],
        on_cancel: Callable[[str, int], None],
    ) -> None:
        self._server = server
        self._token = token
        self._agent = agent
        self._on_work = on_work
        self._on_cancel = on_cancel
        self._log = log
        self._client = socketio.Client(reconnection=True, reconnection_delay_max=10)
        self._client.on("connect", self._connected)
        self._client.on(live.COMMAND, self._commanded)

    def start(self) -> None:
        """Connect; silently not, when the server is away (call it again later)."""
        if self._client.connected:
            return
        try:
            self._client.connect(
                self._server,
                auth={"token": self._token},
                transports=["websocket"],
                socketio_path=live.SOCKETIO_PATH.strip("/"),
                wait_timeout=5,
            )
        except (socketio.exceptions.ConnectionError, ValueError, OSError) as error:
            self._log.info("no live connection; asking now and then instead: %s", error)

    def close(self) -> None:
        """Disconnect and end the threads."""
        self._client.shutdown()

    def _connected(self) -> None:
        self._client.emit(live.SUBSCRIBE, {"room": f"agent:{self._agent}"})

    def _commanded(self, command: Any) -> None:
        if not isinstance(command, dict):
            return
        if command.get("command") == live.WORK:
            self._on_work()
        elif command.get("command") == "cancel":
            self._on_cancel(str(command.get("run")), int(command.get("attempt") or 0))
