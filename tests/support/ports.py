"""
Ports that stay a test's own while nobody listens on them.

A server that is killed and comes back must find its port free, and before it is back its clients
must find nobody there. A port that is chosen, closed and used later is anybody's meanwhile: the
kernel gives it to the next one that asks for any. `Port` keeps it bound: nobody is given it, and
who asks for it by its number (with SO_REUSEADDR, as all servers do) listens on it.
"""

from __future__ import annotations

import socket


class Port:
    """A port of 127.0.0.1 until `close`."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back; who listens on it goes on."""
        self._socket.close()
