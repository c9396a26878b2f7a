"""
Bringing the journals of many attempts, and their config.json, to the disk, by one thread.

Promises: what was written is on the disk within about `DELAY_S`, so that at most that much is
forgotten when the machine loses power; to outlive a kill of this process, having written it is
enough. Nobody waits for the disk. Each file has its own time, so that of an attempt that is over
and removed by then nothing is flushed at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

DELAY_S: Final = 1.0
_TOGETHER_S: Final = 0.1  #: what is due so soon goes along


class Flusher:
    """
    Flushes files that were appended to. Any thread may call.

    *now* is a clock that is never set back, in seconds.
    """

    def __init__(
        self, log: logging.Logger | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log or logging.getLogger(__name__)
        self._now = now
        self._guard = threading.Condition()
        self._waiting: dict[Path, float] = {}  # when each is due; the first is due first
        self._closed = False
        self._thread: threading.Thread | None = None

    def soon(self, path: Path) -> None:
        """Have *path*, and its entry in its folder, on the disk soon."""
        with self._guard:
            self._waiting.setdefault(path, self._now() + DELAY_S)
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

    def due(self) -> list[Path]:
        """Return the files whose time has come: they wait no more."""
        with self._guard:
            until = float("inf") if self._closed else self._now() + _TOGETHER_S
            paths = [path for path, due in self._waiting.items() if due <= until]
            for path in paths:
                del self._waiting[path]
            return paths

    def _loop(self) -> None:
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._waiting or self._closed)
                first = next(iter(self._waiting.values()), 0.0)
                self._guard.wait_for(lambda: self._closed, max(0.0, first - self._now()))
                closed = self._closed
            for path in self.due():
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
