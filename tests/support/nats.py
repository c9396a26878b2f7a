"""
A NATS server with JetStream, real and killable.

Promises of `NatsServer`: it listens on a free port of 127.0.0.1, keeps its streams in a folder of
the test, and comes back after `kill` (kill -9) on the same port with the streams it had.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from tests.support.ports import Port
from tests.support.wait import wait_until

START_S: Final = 60.0


class NatsServer:
    """One server in *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "nats.log"
        self._port = Port()  # also while it is killed
        self.port = self._port.number
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it (again), and wait until it takes connections; silent when it runs."""
        if self.alive:
            return
        path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
        argv = [
            *(shutil.which("nats-server", path=path) or "nats-server", "--addr", "127.0.0.1"),
            *("--port", str(self.port), "--jetstream"),
            *("--store_dir", str(self.folder / "jetstream")),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._ready, timeout=START_S, on_timeout=self.story)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and after SIGKILL wait until it is gone."""
        assert self._process is not None
        if self.alive:
            self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait(START_S)

    def restart(self) -> None:
        """Kill -9 it and start it again on the same port and folder."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it politely."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self._port.close()

    def story(self) -> str:
        """Say how it is and what it printed last."""
        state = "runs" if self.alive else "has ended"
        return f"nats-server {state}; it printed:\n{self.log.read_text(errors='replace')[-4000:]}"

    def _ready(self) -> bool:
        if not self.alive:
            raise AssertionError(self.story())
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                return sock.recv(4) == b"INFO"
        except OSError:
            return False
