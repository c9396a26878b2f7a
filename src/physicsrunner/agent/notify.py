"""
Telling systemd how the agent is (sd_notify), with the standard library.

Promises: without a service manager, or when it does not listen, nothing happens and nothing fails;
when it does not read either, a sign of life waits for nothing and the others for a moment.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PATIENCE_S = 10.0  # with a manager whose queue is full: it takes some messages of all services


@dataclass(frozen=True)
class Notifier:
    """The service manager that started this process, if one did."""

    address: str | None = None
    watchdog_s: float | None = None  #: it expects a sign of life at least so often

    def ready(self, status: str) -> None:
        """The agent is at work."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def alive(self, status: str | None = None) -> None:
        """A sign of life."""
        text = "WATCHDOG=1" if self.watchdog_s else ""
        said = "\n".join(part for part in (text, status and f"STATUS={_line(status)}") if part)
        self._send(said, wait=False)  # the next one comes soon

    def stopping(self, status: str) -> None:
        """The agent is about to end."""
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def _send(self, text: str, *, wait: bool = True) -> None:
        if not self.address or not text:
            return
        # "@" stands for the zero byte of an abstract address.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.settimeout(PATIENCE_S if wait else 0.0)
            line.sendto(text.encode(), address)


def from_environment(environ: Mapping[str, str], pid: int) -> Notifier:
    """Return the service manager that *environ* names."""
    watched = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    usec = environ.get("WATCHDOG_USEC", "")
    watchdog = int(usec) / 1e6 if watched and usec.isdigit() and int(usec) else None
    return Notifier(environ.get("NOTIFY_SOCKET") or None, watchdog)


def forget(environ: MutableMapping[str, str]) -> None:
    """Take its variables out of *environ*: a main.py must not speak in the agent's name."""
    for name in _VARIABLES:
        environ.pop(name, None)


def _line(text: str) -> str:
    return text.replace("\n", " ")
