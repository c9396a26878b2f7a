"""
The disk, as the sync looks at it: stamps, fingerprints, bytes and hashes of followed files.

Promises:

- Only regular files below the followed folders are read; a link is followed to a file that lies
  in them too, never out of them. Nothing waits: a pipe is not opened.
- What cannot be sent (links out, sockets, devices) is named with a reason.
- Memory is bounded by one piece of `PIECE` bytes, whatever the size of a file.

It changes nothing on the disk.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from physicsrunner.core.sync import PRINT_BYTES, Prints, Stamp
from physicsrunner.runner.workdir import WorkFolder

PIECE: Final = 1 << 20  # bytes
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class Found(NamedTuple):
    """One file on the disk."""

    relative: str  #: to the work folder
    local: str  #: where its bytes are: its path, or a link's target
    stamp: Stamp


class Skipped(NamedTuple):
    """Something that is not sent, and why."""

    relative: str
    reason: str
    lost: bool = False  #: it is a file of main.py: the delivery is not whole without it


Seen = Found | Skipped


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what *status* says of a file's identity and content."""
    return Stamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class Disk:
    """The followed folders of one work folder."""

    def __init__(self, folder: WorkFolder) -> None:
        self.root = str(folder.root)
        self._followed = tuple(str(path)[len(self.root) + 1 :] for path in folder.followed)
        self._real: tuple[str, ...] = ()  # the followed folders, when there is a link

    def relative(self, path: str) -> str | None:
        """Return *path* relative to the work folder; None where it is not followed."""
        if not path.startswith(self.root + "/"):
            return None
        relative = path[len(self.root) + 1 :]
        return relative if self._is_followed(relative) else None

    def walk(self, below: str = "") -> Iterator[Seen]:
        """Iterate over all that lies below the folder *below* (relative; "": all)."""
        for start in (below,) if below else self._followed:
            yield from self._walk(start)

    def look(self, relative: str) -> Seen | str | None:
        """
        Look at one path: a file, something to skip, nothing (None), or a folder (its path).
        """
        full = f"{self.root}/{relative}"
        try:
            status = os.lstat(full)
        except (OSError, ValueError):
            return None
        if stat.S_ISDIR(status.st_mode):
            return relative
        return self._seen(relative, full, status)

    def _is_followed(self, relative: str) -> bool:
        return any(relative == name or relative.startswith(name + "/") for name in self._followed)

    def _walk(self, folder: str) -> Iterator[Seen]:
        todo = [folder]
        while todo:
            current = todo.pop()
            try:
                with os.scandir(f"{self.root}/{current}") as entries:
                    found = list(entries)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                continue
            except OSError as error:
                yield Skipped(current, f"folder cannot be read: {error.strerror}", lost=True)
                continue
            for entry in found:
                relative = current + "/" + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(relative)
                        continue
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone meanwhile
                seen = self._seen(relative, entry.path, status)
                if seen is not None:
                    yield seen

    def _seen(self, relative: str, full: str, status: os.stat_result) -> Seen | None:
        local = full
        if stat.S_ISLNK(status.st_mode):
            local = os.path.realpath(full)
            if not self._real:
                real = os.path.realpath(self.root)
                self._real = tuple(f"{real}/{name}/" for name in self._followed)
            if not local.startswith(self._real):
                return Skipped(relative, "a link that leads out of the followed folders")
            try:
                status = os.lstat(local)
            except OSError:
                return Skipped(relative, "a link to nothing")
            if stat.S_ISDIR(status.st_mode):
                return Skipped(relative, "a link to a folder, whose files are sent themselves")
        if not stat.S_ISREG(status.st_mode):
            return Skipped(relative, "not a regular file")
        return Found(relative, local, stamp_of(status))


@contextmanager
def opened(path: str) -> Iterator[tuple[int, Stamp]]:
    """Open a regular file for reading; give its descriptor and its stamp."""
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        yield fd, stamp_of(status)
    finally:
        os.close(fd)


def prints_of(fd: int, size: int) -> Prints:
    """Return the fingerprints of the first *size* bytes of a file."""
    head = os.pread(fd, min(PRINT_BYTES, size), 0)
    if size <= PRINT_BYTES:
        return Prints(size, zlib.crc32(head), zlib.crc32(head))
    return Prints(size, zlib.crc32(head), zlib.crc32(os.pread(fd, PRINT_BYTES, size - PRINT_BYTES)))


def prints_of_bytes(data: bytes, size: int) -> Prints:
    """Return the fingerprints of the first *size* bytes of *data*."""
    head, tail = data[: min(PRINT_BYTES, size)], data[max(0, size - PRINT_BYTES) : size]
    return Prints(size, zlib.crc32(head), zlib.crc32(tail))


def read(fd: int, offset: int, length: int) -> bytes:
    """Return *length* bytes from *offset* on, fewer at the end of the file."""
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    parts, have = [data], len(data)
    while have < length and (data := os.pread(fd, length - have, offset + have)):
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def digest(path: str, stop: Callable[[], bool]) -> tuple[Stamp, str] | None:
    """
    Return the SHA-256 of a file and the stamp that it had before, while and after it was read.

    None when it changed meanwhile, is gone, or *stop* said so.
    """
    try:
        with opened(path) as (fd, stamp):
            sha, buffer, at = hashlib.sha256(), memoryview(bytearray(PIECE)), 0
            while at < stamp.size and not stop():
                count = os.preadv(fd, [buffer[: min(PIECE, stamp.size - at)]], at)
                if not count:
                    return None
                sha.update(buffer[:count])
                at += count
            if at < stamp.size or stamp_of(os.fstat(fd)) != stamp:
                return None
            return stamp, sha.hexdigest()
    except OSError:
        return None


def block_hashes(fd: int, size: int, block: int) -> list[str]:
    """Return the SHA-256 of each block of the first *size* bytes of a file."""
    hashes = []
    for start in range(0, size, block):
        sha, at, end = hashlib.sha256(), start, min(start + block, size)
        while at < end and (data := os.pread(fd, min(PIECE, end - at), at)):
            sha.update(data)
            at += len(data)
        hashes.append(sha.hexdigest())
    return hashes
