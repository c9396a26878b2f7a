"""
Hearing of the ends of many processes in one thread.

Promises: each callback is called once, soon after its process has ended, from the one thread; a
process that had ended before is told too. It costs one descriptor a process (Linux 5.3) and no
wake-up; elsewhere all are looked at every 50 ms. The thread begins with the first process.

It reaps nothing and signals nothing.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Final

from physicsrunner.engines.processes import ProcessId, is_alive, open_pidfd

_LOOK_S: Final = 0.05  # between two looks at processes without a descriptor
_log = logging.getLogger(__name__)


class Ends:
    """Processes whose ends are waited for. Any thread may call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._calls: dict[ProcessId, Callable[[], None]] = {}
        self._by_descriptor: dict[int, ProcessId] = {}
        self._descriptors: dict[ProcessId, int] = {}
        self._looked_at: set[ProcessId] = set()
        self._poller: select.epoll | None = None
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, process: ProcessId, on_end: Callable[[], None]) -> None:
        """Call *on_end* when *process* has ended; at once when it had."""
        descriptor = open_pidfd(process.pid)
        # Looked at after the descriptor is open: from then on the pid cannot be another's.
        if not is_alive(process):
            if descriptor is not None:
                os.close(descriptor)
            on_end()
            return
        with self._guard:
            self._begin()
            self._calls[process] = on_end
            if descriptor is None or self._poller is None:
                self._looked_at.add(process)
                self._nudge()
                return
            self._by_descriptor[descriptor] = process
            self._descriptors[process] = descriptor
            self._poller.register(descriptor, select.EPOLLIN)

    def forget(self, process: ProcessId) -> None:
        """Wait for *process* no more."""
        with self._guard:
            self._drop(process)

    def close(self) -> None:
        """End the thread; nothing is called when this returns."""
        with self._guard:
            self._closed = True
            self._nudge()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._guard:
            for process in list(self._calls):
                self._drop(process)
            if self._poller is not None:
                self._poller.close()
                self._poller = None
            for end in self._wake or ():
                os.close(end)
            self._wake = None

    def _begin(self) -> None:
        if self._thread is not None or self._closed:
            return
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller = select.epoll()
        self._poller.register(self._wake[0], select.EPOLLIN)
        self._thread = threading.Thread(target=self._loop, name="ends", daemon=True)
        self._thread.start()

    def _nudge(self) -> None:
        if self._wake is not None:
            os.write(self._wake[1], b"x")

    def _loop(self) -> None:
        poller, wake = self._poller, self._wake
        assert poller is not None  # noqa: S101 (`_begin` made both)
        assert wake is not None  # noqa: S101
        while not self._closed:
            ready = poller.poll(_LOOK_S if self._looked_at else None)
            if any(descriptor == wake[0] for descriptor, _ in ready):
                os.read(wake[0], 4096)
            with self._guard:
                ended = [self._by_descriptor[d] for d, _ in ready if d in self._by_descriptor]
                looked_at = list(self._looked_at)
            ended += [process for process in looked_at if not is_alive(process)]
            for process in ended:
                self._tell(process)

    def _tell(self, process: ProcessId) -> None:
        with self._guard:
            call = self._drop(process)
        if call is None:
            return
        try:
            call()
        except Exception:
            _log.exception("the end of process %d was not taken", process.pid)

    def _drop(self, process: ProcessId) -> Callable[[], None] | None:
        descriptor = self._descriptors.pop(process, None)
        if descriptor is not None:
            del self._by_descriptor[descriptor]
            if self._poller is not None:
                self._poller.unregister(descriptor)
            os.close(descriptor)
        self._looked_at.discard(process)
        return self._calls.pop(process, None)
