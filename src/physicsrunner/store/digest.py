"""
SHA-256 of a file while its bytes stream in, beside the writing.

Promises: `hexdigest` is that of all bytes given to `update`, in their order. Hashing and writing
both let go of the interpreter's lock, so a large file is hashed in a thread of the pool while the
caller writes it; at most 5 MiB wait. The first megabyte is hashed where it is: for a small file a
thread would cost more than the hash.

The bytes given must not change afterwards.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

_INLINE: Final = 1024 * 1024  # bytes of a file that are hashed where they are
_BATCH: Final = 256 * 1024  # bytes for which a thread is woken
_WAITING: Final = 4 * 1024 * 1024  # bytes
READ: Final = 1024 * 1024  # bytes read at once


class Digest:
    """The running SHA-256 of one file. ``update`` is called by one thread at a time."""

    __slots__ = ("_hash", "_idle", "_pieces", "_pool", "_running", "_waiting", "length")

    def __init__(self, pool: Executor) -> None:
        self.length = 0  #: bytes given so far
        self._hash = hashlib.sha256()
        self._pool = pool
        self._pieces: deque[bytes | memoryview] = deque()
        self._waiting = 0
        self._running = False
        self._idle: threading.Condition | None = None  # made when the file is no longer small

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes; wait if too many are waiting to be hashed."""
        self.length += len(data)
        if self._idle is None:
            if self.length <= _INLINE:
                self._hash.update(data)
                return
            self._idle = threading.Condition()
        with self._idle:
            while self._waiting > _WAITING:
                self._idle.wait()
            self._pieces.append(data)
            self._waiting += len(data)
            if self._running or self._waiting < _BATCH:
                return
            self._running = True
        self._pool.submit(self._drain, self._idle)

    def hexdigest(self) -> str:
        """Return the SHA-256 of all bytes so far, in hex."""
        if self._idle is not None:
            with self._idle:
                while self._running:
                    self._idle.wait()
                self._running = True
            self._drain(self._idle)  # what was too little to wake a thread
        return self._hash.hexdigest()

    def _drain(self, idle: threading.Condition) -> None:
        while True:
            with idle:
                if not self._pieces:
                    self._running = False
                    idle.notify_all()
                    return
                pieces, self._pieces = self._pieces, deque()
            for piece in pieces:
                self._hash.update(piece)
            with idle:
                self._waiting -= sum(map(len, pieces))
                idle.notify_all()


def file_digest(path: Path) -> tuple[str, int]:
    """Return the SHA-256 in hex and the size in bytes of the file at *path*."""
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(READ))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            size += count
    return digest.hexdigest(), size


def block_digests(path: Path, block_size: int) -> tuple[list[str], int]:
    """Return the SHA-256 of each block of *block_size* bytes, and the file's size in bytes."""
    hashes: list[str] = []
    size = 0
    with path.open("rb", buffering=0) as stream:
        while True:
            digest, left = hashlib.sha256(), block_size
            while left and (data := stream.read(min(left, READ))):
                digest.update(data)
                left -= len(data)
            if left == block_size:
                return hashes, size
            size += block_size - left
            hashes.append(digest.hexdigest())
            if left:
                return hashes, size
