"""
Where whole, immutable files are kept: models' bundles and uploaded inputs, by their content.

Promises of every implementation:

- `put` makes a file visible whole or not at all, and durable before it is visible.
- The same key twice is one file, the first; also when two come at once.
- Keys are made by us (hex digests), never by a caller.

The folder implementation is the embedded server's. An S3 one offers the same methods; sealed files
of runs lie in the spool's own tree, which is the folder store's layout already.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from physicsrunner.errors import NotFound
from physicsrunner.store.spool import translated


class BlobStore(Protocol):
    """A place for immutable files."""

    def put(self, key: str, source: Path) -> None:
        """Keep the bytes of *source* under *key*; silent if the key is there."""
        ...

    def has(self, key: str) -> bool:
        """Say whether *key* is there."""
        ...

    def path(self, key: str) -> Path:
        """Return a local file with the bytes of *key*, to read; raise `NotFound`."""
        ...

    def delete(self, key: str) -> None:
        """Remove *key*; silent if it is not there."""
        ...


class FolderBlobs:
    """Files in one folder."""

    def __init__(self, root: Path, suffix: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._suffix = suffix

    def put(self, key: str, source: Path) -> None:
        """Keep the bytes of *source* under *key*; silent if the key is there."""
        target = self._local(key)
        if target.is_file():
            return
        part = self.root / f".{uuid.uuid4().hex}.part"
        with translated(key):
            try:
                shutil.copyfile(source, part)
                _fsync(part, os.O_RDONLY)
                # Never over one that another caller has just put there and tells the size of.
                with suppress(FileExistsError):
                    os.link(part, target)
                _fsync(self.root, os.O_RDONLY | os.O_DIRECTORY)
            finally:
                part.unlink(missing_ok=True)

    def has(self, key: str) -> bool:
        """Say whether *key* is there."""
        return self._local(key).is_file()

    def path(self, key: str) -> Path:
        """Return the file of *key*; raise `NotFound`."""
        local = self._local(key)
        if not local.is_file():
            raise NotFound(f"there is nothing stored as {key}")
        return local

    def delete(self, key: str) -> None:
        """Remove *key*; silent if it is not there."""
        self._local(key).unlink(missing_ok=True)

    def _local(self, key: str) -> Path:
        if not key.isalnum() or not key.isascii():
            raise NotFound(f"{key[:80]!r} is not a key")
        return self.root / f"{key}{self._suffix}"


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
