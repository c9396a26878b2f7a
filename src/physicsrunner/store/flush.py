"""
Getting bytes and folder entries onto the disk, many files with one flush.

Promises: when `Flusher.flush` returns, the files' bytes, their names and the folders that lead to
them survive a power cut. Callers who come while a flush of the whole file system runs share the
next one. A failed flush raises `OSError`: nothing may then be called sealed.

Linux's ``syncfs`` and ``sync_file_range`` are called through ctypes; where they are missing, every
file is flushed for itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

_FEW: Final = 16  # files and folders that are cheaper to flush one by one
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: start writing, wait for nothing
_KNOWN: Final = 50_000  # folders that are remembered as flushed


def _function(name: str, arguments: list[Any]) -> Any:
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):
        return None
    function.argtypes = arguments
    return function


_SYNCFS: Final = _function("syncfs", [ctypes.c_int])
_SYNC_RANGE: Final = _function(
    "sync_file_range", [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
)


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """
    Ask the kernel to begin writing a range to the disk, so that the flush at the end is short.

    A hint: that it cannot be followed changes nothing.
    """
    if _SYNC_RANGE is not None:
        _SYNC_RANGE(descriptor, offset, length, _WRITE)


class Flusher:
    """Flushes files below one folder of one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = str(root)
        self._turn = threading.Condition()
        self._started = 0
        self._finished = 0
        self._running = False
        self._failed: OSError | None = None
        self._flushed: set[str] = set()  # folders whose own names are on the disk

    def flush(self, paths: Sequence[str]) -> None:
        """Put *paths*, regular files below the root, on the disk with all that leads to them."""
        due, named = set[str](), set[str]()
        if len(paths) <= _FEW or _SYNCFS is None:
            due, named = self._due({os.path.dirname(path) for path in paths})  # noqa: PTH120 - texts
        if len(paths) + len(due) > _FEW and _SYNCFS is not None:
            self._flush_all()
            return
        for path in paths:
            _fsync(path, folder=False)
        for folder in due:
            _fsync(folder, folder=True)
        if len(self._flushed) > _KNOWN:
            self._flushed.clear()
        self._flushed |= named

    def forget(self, folder: Path) -> None:
        """Note that *folder* was removed: one of that name that is made later is not flushed."""
        self._flushed.discard(str(folder))

    def _due(self, folders: Collection[str]) -> tuple[set[str], set[str]]:
        """Return the folders to flush so that *folders* stay, and those whose names that keeps."""
        due, named = set(folders), set[str]()
        for folder in folders:
            # A folder's own name lies in the folder above it: once is enough, it does not change.
            while folder != self._top and folder not in self._flushed and folder not in named:
                named.add(folder)
                folder = os.path.dirname(folder)  # noqa: PTH120
                due.add(folder)
        return due, named

    def _flush_all(self) -> None:
        with self._turn:
            # A flush that has begun may have passed our bytes by: wait for one that begins later.
            mine = self._started + 1
            while self._running and self._finished < mine:
                self._turn.wait()
            if self._finished >= mine:
                if self._failed is not None:
                    raise OSError(self._failed.errno, str(self._failed))
                return
            self._started += 1
            turn, self._running = self._started, True
        failed: OSError | None = None
        try:
            _syncfs(self.root)
        except OSError as error:
            failed = error
        with self._turn:
            self._running, self._finished, self._failed = False, turn, failed
            self._turn.notify_all()
        if failed is not None:
            raise failed


def _fsync(path: str, *, folder: bool) -> None:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_DIRECTORY if folder else 0)
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(root: Path) -> None:
    descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        if _SYNCFS(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)
