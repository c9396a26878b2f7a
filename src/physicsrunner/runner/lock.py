"""
The lock of a work folder: one runner at a time.

Promises: the kernel holds the lock (`flock`), so it ends with its holder however that dies, and a
stale one is taken over without asking anybody. The file names the holder's pid, start time and
host for people and for file systems that have no `flock`; there the named process decides.

It never waits: a second user is refused at once with `WorkDirLocked`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from physicsrunner.engines.processes import is_alive, own_id, parse_process_id
from physicsrunner.errors import WorkDirLocked
from physicsrunner.runner.workdir import ensure

_NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class WorkLock:
    """Held from `acquire` (or ``with``) to `release`. Each instance locks once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._by_name = False  #: what is written in it decides

    def acquire(self) -> None:
        """
        Take the lock.

        Raises
        ------
        WorkDirLocked
            Another runner, of this process or another, holds it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o644)
        except FileNotFoundError:
            ensure(self._path.parent)
            descriptor = os.open(self._path, flags, 0o644)
        try:
            self._take(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{own_id()} {socket.gethostname()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back. The file stays: removing it could free a lock just taken."""
        if self._descriptor is not None:
            if self._by_name:
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._locked(descriptor) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            self._by_name = True
            text = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
            holder = parse_process_id(text)
            here = text.split()[-1:] == [socket.gethostname()]
            if holder is not None and (not here or is_alive(holder)):
                raise self._locked(descriptor) from None

    def _locked(self, descriptor: int) -> WorkDirLocked:
        words = os.pread(descriptor, 200, 0).decode("utf-8", "replace").split()
        holder = f"the runner with pid {words[0]} on {words[-1]}" if words else "another runner"
        folder = self._path.parent.parent
        return WorkDirLocked(f"{holder} works in {folder}; two at once would spoil both runs")
