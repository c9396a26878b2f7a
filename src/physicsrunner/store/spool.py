"""
The spool: the files of attempts as they grow, plain files in a local folder.

Layout below the root (section 7.2 of the simulation manager's document)::

    RUN/attempts/N/{logs,outputs,metadata}/...    what the attempt sent
    RUN/inputs/{parameters,configuration}.json    what it was asked
    RUN/removed/N/...                             sealed files that were removed, until retention

Promises:

- The stored bytes are the truth: a file's offset is its size on the disk.
- A path is used only after `core.paths.check_path`; a link is never followed, and none is made.
- A file where a folder is needed, or the reverse, is `PathConflict`; a full disk is `StorageFull`
  with all that was stored before still there.
- `SpoolFile.seal_digest` is of the bytes on the disk, hashed while they came in where possible.

Who may write, in which order, and what is sealed, `service.files` decides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import NotFound, PathConflict, ServerUnavailable, StorageFull
from physicsrunner.store.digest import Digest, block_digests, file_digest
from physicsrunner.store.direct import DirectFile
from physicsrunner.store.flush import Flusher, start_writing

_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_THE_WAY: Final = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)
_EMPTY: Final = hashlib.sha256().hexdigest()
_AHEAD: Final = 8 * 1024 * 1024  # bytes after which the kernel is asked to begin writing


class translated:  # noqa: N801 (a context; written out, for it is entered for every small file)
    """Turn the operating system's errors into ours; *what* names the file in the message."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in _FULL:
            raise StorageFull(f"{self.what}: {error.strerror}") from error
        if error.errno in _IN_THE_WAY:
            raise PathConflict(f"{self.what}: a file or a folder is in the way") from error
        raise ServerUnavailable(f"{self.what}: {error.strerror}") from error


class SpoolFile:
    """
    One file of one attempt, and what is known of it in memory.

    ``owner`` is whoever began the latest operation on it, ``version`` counts what changed it. Its
    methods are called with ``lock`` held.
    """

    __slots__ = ("digest", "lock", "name", "owner", "path", "pool", "tail", "version")

    def __init__(self, path: str, name: str, pool: Executor) -> None:
        self.path = path
        self.name = name  #: where it lies
        self.pool = pool
        self.lock = threading.Lock()
        self.owner: object | None = None
        self.version = 0
        self.digest: Digest | None = None
        self.tail: Any = None  #: what `service.tails` keeps of it

    @property
    def local(self) -> Path:
        """Where it lies. Parsing this costs more than opening the file does: see `name`."""
        return Path(self.name)

    def open(self, *, create: bool) -> int | None:
        """Return a descriptor; None if there is no such file and *create* is false."""
        flags = _FLAGS | (os.O_CREAT if create else 0)
        with translated(self.path):
            for _ in range(3):
                try:
                    return os.open(self.name, flags, 0o644)
                except FileNotFoundError:
                    if not create:
                        return None
                    # Another call may be tidying up the empty folder: hence the repetition.
                    make_folder(os.path.dirname(self.name))  # noqa: PTH120 - texts
            raise PathConflict(f"{self.path}: its folder is being removed")

    def size(self) -> int | None:
        """Return the bytes stored; None if there is no such file."""
        with translated(self.path):
            try:
                return os.lstat(self.name).st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def follow(self, size: int, offset: int) -> None:
        """Prepare the running digest for bytes at *offset* of a file that has *size* bytes."""
        if size == 0:
            self.digest = Digest(self.pool)
        elif self.digest is not None and not offset == size == self.digest.length:
            self.digest = None

    def write(
        self, descriptor: int, data: memoryview, offset: int, *, direct: DirectFile | None = None
    ) -> None:
        """
        Store *data* at *offset*. After an error, the size on the disk says what is stored.

        With *direct*, which continues the file at *offset*, it is stored when that is closed.
        """
        self.version += 1
        digest, done = self.digest, 0
        if digest is not None:
            digest.update(data)
        try:
            with translated(self.path):
                if direct is not None:
                    direct.write(data)
                    done = len(data)
                while done < len(data):
                    done += os.pwrite(descriptor, data[done:], offset + done)
        finally:
            if done < len(data):
                self.digest = None
        end = offset + done
        if direct is None and offset // _AHEAD != end // _AHEAD:
            start = offset // _AHEAD * _AHEAD
            start_writing(descriptor, start, end // _AHEAD * _AHEAD - start)

    def truncate(self, size: int) -> None:
        """Cut the file to *size* bytes."""
        self.version += 1
        self.digest = None
        with translated(self.path):
            descriptor = os.open(self.name, _FLAGS)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

    def seal_digest(self, size: int) -> str:
        """Return the SHA-256 of the stored bytes, of which there are *size*."""
        if size == 0:
            return _EMPTY
        digest = self.digest
        if digest is not None and digest.length == size:
            return digest.hexdigest()
        with translated(self.path):
            return file_digest(self.local)[0]


def make_folder(folder: str) -> None:
    """Make *folder* and those above it that are not there; silent if it is."""
    try:
        os.mkdir(folder)  # noqa: PTH102 - of each run several: a `Path` costs more than the folder
    except FileNotFoundError:
        make_folder(os.path.dirname(folder))  # noqa: PTH120
        make_folder(folder)
    except FileExistsError:
        if not os.path.isdir(folder):  # noqa: PTH112
            raise


def put(name: str, data: bytes) -> None:
    """Write *data* as the whole of the file *name*."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
    finally:
        os.close(descriptor)


class Spool:
    """The folders of all runs."""

    def __init__(self, root: Path, pool: Executor) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._top = str(root)
        self.flusher = Flusher(root)
        self._pool = pool

    def run_folder(self, run: str) -> Path:
        """Return the folder of a run. *run* is the id of a run in the store, never raw input."""
        return self.root / run

    def folder(self, run: str, attempt: int) -> Path:
        """Return the folder of an attempt."""
        return self.root / run / "attempts" / str(attempt)

    def file(self, run: str, attempt: int, path: str) -> SpoolFile:
        """Return a file of an attempt, whether it exists or not; raise `UnsafePath`."""
        return SpoolFile(path, self._name(run, attempt, path), self._pool)

    def has(self, run: str, attempt: int) -> bool:
        """Say whether anything of an attempt was ever stored."""
        return os.path.isdir(f"{self._top}/{run}/attempts/{attempt}")  # noqa: PTH112

    def local(self, run: str, attempt: int, path: str) -> Path:
        """Return where a file of an attempt lies; raise `UnsafePath`."""
        return Path(self._name(run, attempt, path))

    def _name(self, run: str, attempt: int, path: str) -> str:
        return f"{self._top}/{run}/attempts/{attempt}/{check_path(path)}"

    def existing(self, run: str, attempt: int, path: str) -> Path:
        """Return where a regular file of an attempt lies; raise `NotFound` if it does not."""
        local = self.local(run, attempt, path)
        if local.is_symlink() or not local.is_file():
            raise NotFound(f"attempt {attempt} of run {run} has no file {path!r}")
        return local

    def names(self, run: str, attempt: int, folder: str) -> Sequence[str]:
        """Return the names of the files that lie in *folder* itself, sorted."""
        try:
            with os.scandir(self._name(run, attempt, folder)) as found:
                return sorted(entry.name for entry in found if entry.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def files(self, run: str, attempt: int) -> Iterator[tuple[str, int]]:
        """Iterate over the attempt's files: path and size in bytes, in no order."""
        top = str(self.folder(run, attempt))
        folders = [top]
        while folders:
            try:
                entries = os.scandir(folders.pop())
            except FileNotFoundError:
                continue  # removed while we looked, or nothing has come yet
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            size = entry.stat(follow_symlinks=False).st_size
                            yield entry.path[len(top) + 1 :], size

    def blocks(self, run: str, attempt: int, path: str, block_size: int) -> tuple[list[str], int]:
        """Return the SHA-256 of each block of a stored file, and its size in bytes."""
        local = self.existing(run, attempt, path)
        with translated(path):
            return block_digests(local, block_size)

    def remove(self, run: str, attempt: int, path: str, *, keep: bool) -> None:
        """
        Remove a file; silent if there is none.

        With *keep* it is moved to the run's ``removed/`` folder. Folders that are empty then go
        too, so that a file may take their name.
        """
        local = self.local(run, attempt, path)
        with translated(path):
            try:
                if keep:
                    aside = self.root / run / "removed" / str(attempt)
                    aside.mkdir(parents=True, exist_ok=True)
                    # A name may have 255 bytes already: only its end is kept, in whole characters.
                    end = local.name.encode()[-80:].decode(errors="ignore")
                    local.replace(aside / f"{uuid.uuid4().hex}-{end}")
                else:
                    local.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
        self._tidy(local.parent, self.folder(run, attempt))

    def rename(self, run: str, attempt: int, path: str, to: str) -> None:
        """Give a file another path. What lay there is replaced; make sure that may be."""
        source, target = self.local(run, attempt, path), self.local(run, attempt, to)
        with translated(to):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        self._tidy(source.parent, self.folder(run, attempt))

    def _tidy(self, folder: Path, top: Path) -> None:
        while folder != top:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or gone already
            self.flusher.forget(folder)
            folder = folder.parent
