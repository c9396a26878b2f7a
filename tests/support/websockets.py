"""A client of a WebSocket that speaks JSON: it reads in a thread, and keeps what came."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

import websocket

from tests.support.wait import wait_until


class JsonSocket:
    """One connection to *address*; *more* is for `websocket.create_connection`."""

    def __init__(self, address: str, **more: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self.code: int | None = None  #: of the close, when it came
        address = address.replace("http", "ws", 1)
        self.socket = websocket.create_connection(address, timeout=60, **more)
        assert self.socket.sock is not None
        self._sock: socket.socket = self.socket.sock
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while True:
                kind, data = self.socket.recv_data()
                if kind == websocket.ABNF.OPCODE_CLOSE:
                    self.code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
                    return
                if kind == websocket.ABNF.OPCODE_TEXT:
                    self.messages.append(json.loads(data))

    def send(self, **message: Any) -> None:
        """Send one message."""
        self.socket.send(json.dumps(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what came of one type."""
        return [message for message in self.messages if message["type"] == kind]

    def wait(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for messages of one type; return them."""
        wait_until(lambda: len(self.of(kind)) >= count, on_timeout=lambda: self.messages)
        return self.of(kind)

    def ended(self) -> int | None:
        """Wait for the end; return the code of the close."""
        wait_until(lambda: not self._reader.is_alive(), on_timeout=lambda: self.messages)
        return self.code

    def close(self) -> None:
        """Hang up, whoever has before."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(10)
        self._sock.close()
