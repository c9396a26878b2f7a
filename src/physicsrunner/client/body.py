"""
The body of a sync frame, read from memory and files while it is sent.

Promises: the pieces are exactly as long as announced, whatever happens to the files meanwhile: a
file that became shorter is filled up with zeros, so that the frame stays valid, and `short` says
so (its bytes are not to be trusted). At most one piece of `PIECE` bytes is in memory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

PIECE: Final = 1 << 20  # bytes
_ZEROS: Final = bytes(64 * 1024)
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # never wait at a pipe's end


class Body:
    """A body whose length is known: *pieces* is called once for each time that it is sent."""

    def __init__(self, pieces: Callable[[], Iterator[Any]], size: int) -> None:
        self._pieces = pieces
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return self._pieces()


class FileSlice:
    """Bytes ``[offset, offset + length)`` of the file at *path*."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self.path = path
        self.offset = offset
        self.length = length
        self.short = False  #: the file had fewer bytes, or could not be read

    def __len__(self) -> int:
        return self.length

    def pieces(self) -> Iterator[memoryview]:
        """Read the slice in pieces of at most `PIECE` bytes (each valid until the next)."""
        self.short = False
        left, at = self.length, self.offset
        try:
            fd = os.open(self.path, _FLAGS)
        except OSError:
            yield from self._zeros(left)
            return
        try:
            buffer = memoryview(bytearray(min(PIECE, left)))
            while left:
                count = _read(fd, buffer[: min(PIECE, left)], at)
                if not count:
                    break
                yield buffer[:count]
                left, at = left - count, at + count
        finally:
            os.close(fd)
        yield from self._zeros(left)

    def send_to(self, sock: socket.socket) -> None:
        """Send the slice by the kernel, without a copy through this process."""
        self.short = False
        sent = 0
        try:
            file = open(os.open(self.path, _FLAGS), "rb", buffering=0)  # noqa: PTH123, SIM115
        except OSError:
            file = None
        if file is not None:
            with file:
                try:
                    sent = sock.sendfile(file, self.offset, self.length)
                except (ValueError, IsADirectoryError):
                    sent = 0  # no longer a regular file: nothing of it was sent
        for piece in self._zeros(self.length - sent):
            sock.sendall(piece)

    def _zeros(self, count: int) -> Iterator[memoryview]:
        if count:
            self.short = True
        while count:
            piece = memoryview(_ZEROS)[:count]
            yield piece
            count -= len(piece)


def _read(fd: int, into: memoryview, at: int) -> int:
    try:
        return os.preadv(fd, [into], at)
    except OSError:
        return 0  # a file that cannot be read on: filled up, and reported
