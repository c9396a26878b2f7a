"""
Bringing the journals of many attempts to the disk, by one thread.

Promises: what was written is on the disk within about `DELAY_S`, so that at most that much is
forgotten when the machine loses power; to outlive a kill of this process, having written it is
enough. Nobody waits for the disk, and of an attempt that is over and removed by then nothing is
flushed at all.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Final

DELAY_S: Final = 1.0


class Flusher:
    """Flushes files that were appended to. Any thread may call."""

    def __init__(self, log: logging.Logger | None = None) -> None:
        self._log = log or logging.getLogger(__name__)
        self._guard = threading.Condition()
        self._waiting: set[Path] = set()
        self._closed = False
        self._thread: threading.Thread | None = None

    def soon(self, path: Path) -> None:
        """Have *path*, and its entry in its folder, on the disk soon."""
        with self._guard:
            self._waiting.add(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="flush", daemon=True)
                self._thread.start()
            elif len(self._waiting) == 1:
                self._guard.notify()

    def close(self) -> None:
        """Flush what waits, and end the thread."""
        with self._guard:
            self._closed = True
            self._guard.notify()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._waiting or self._closed)
                self._guard.wait_for(lambda: self._closed, DELAY_S)
                paths, self._waiting = self._waiting, set()
                closed = self._closed
            for path in paths:
                self._flush(path)
            if closed:
                return

    def _flush(self, path: Path) -> None:
        try:
            for each, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
                file = os.open(each, flags | os.O_CLOEXEC)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
        except FileNotFoundError:
            return  # delivered and removed
        except OSError as error:
            self._log.warning("%s may be lost with the machine's power: %s", path, error)
