"""
Hearing of new work at once, over socket.io. Only a hint: the agent polls besides.

Promises: `closed` or unreachable, it costs nothing but time; it never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import socketio

from physicsrunner.wire import live


class Wake:
    """Calls *on_work* when the server says that there may be work for the agent."""

    def __init__(
        self, server: str, token: str, agent: str, on_work: Callable[[], None], log: logging.Logger
    ) -> None:
        self._server = server
        self._token = token
        self._agent = agent
        self._on_work = on_work
        self._log = log
        # No reconnection in the background while the server is away: `poke` tries again.
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
        if isinstance(command, dict) and command.get("command") == live.WORK:
            self._on_work()
