"""
The cache of inputs, by content: a sweep of a thousand runs fetches its mesh once.

Promises:

- A file is found only under the SHA-256 of its content. Cached files carry a fixed modification
  time: one that was changed (through a hard link, by a program that edits its inputs) is noticed
  and dropped, never handed out.
- Safe for any number of processes at once: files appear whole, by rename, and one that vanishes
  meanwhile is a miss.
- It stays below its size: those used longest ago go first.

A cache that cannot be written is no cache, never an error.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from physicsrunner.errors import PhysicsRunnerError

DEFAULT_SIZE: Final = 20 * 1024**3  # bytes
_MARK_NS: Final = 1_000_000_000 * 10**9  # the modification time of every cached file
_UNPACKED_FROM: Final = 16 * 1024**2  # larger archives are unpacked each time
_TREES: Final = 64  # archives that are kept unpacked
_PIECE: Final = 1 << 20  # bytes that are copied at once
_LINK_FROM: Final = 64 * 1024**2  # smaller files are copied: a copy cannot be spoilt by others


def default_folder(environment: dict[str, str] | os._Environ[str] | None = None) -> Path:
    """Return ``~/.cache/physicsrunner/inputs`` (below ``XDG_CACHE_HOME`` where that is set)."""
    base = (os.environ if environment is None else environment).get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "physicsrunner" / "inputs"


class InputCache:
    """Files by SHA-256 below *folder*, at most *limit* bytes of them."""

    def __init__(
        self, folder: Path, *, limit: int = DEFAULT_SIZE, now: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._now = now

    def get(self, sha256: str, size: int, target: Path) -> bool:
        """Put the file with this content at *target*; False if it is not here."""
        cached = self._path(sha256)
        try:
            found = cached.stat()
            if found.st_mtime_ns != _MARK_NS or found.st_size != size:
                cached.unlink()
                return False
            os.utime(cached, ns=(int(self._now() * 1e9), _MARK_NS))
            self._place(cached, target)
        except OSError:
            return False
        return True

    def find(self, sha256: str, size: int) -> Path | None:
        """Return where the file with this content is, to be read at once; None: it is not here."""
        cached = self._path(sha256)
        try:
            found = cached.stat()
            if found.st_mtime_ns != _MARK_NS or found.st_size != size:
                return None
            os.utime(cached, ns=(int(self._now() * 1e9), _MARK_NS))
        except OSError:
            return None
        return cached

    def unpack(
        self, sha256: str, size: int, target: Path, extract: Callable[[Path, Path], object]
    ) -> bool:
        """
        Copy what the archive with this content holds into *target*; False if it is not here.

        It is unpacked once, by *extract*, and kept that way.
        """
        archive = self.find(sha256, size)
        if archive is None:
            return False
        if size > _UNPACKED_FROM:
            extract(archive, target)
            return True
        tree = self._folder / "unpacked" / sha256
        try:
            if not tree.is_dir():
                self._unpack(archive, tree, extract)
            _copy_tree(str(tree), str(target))
        except FileNotFoundError:
            return False  # somebody tidied up meanwhile
        except PhysicsRunnerError:
            if archive.exists():
                raise
            return False
        return True

    def _unpack(self, archive: Path, tree: Path, extract: Callable[[Path, Path], object]) -> None:
        staging = tree.with_name(f".{uuid.uuid4().hex}")
        staging.mkdir(parents=True)
        try:
            extract(archive, staging)
            with suppress(OSError):  # another process was faster
                staging.replace(tree)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        trees = sorted(tree.parent.iterdir(), key=lambda path: path.lstat().st_mtime_ns)
        for old in trees[:-_TREES]:
            shutil.rmtree(old, ignore_errors=True)

    def put(self, sha256: str, source: Path) -> None:
        """Keep *source*, whose SHA-256 the caller has just verified."""
        cached = self._path(sha256)
        with suppress(OSError):
            if source.stat().st_size > self._limit or cached.exists():
                return
            cached.parent.mkdir(parents=True, exist_ok=True)
            self._place(source, cached, marked=True)
            self._shrink()

    def _place(self, source: Path, target: Path, *, marked: bool = False) -> None:
        """Make *target* appear whole: a link for a large file where one can be made, or a copy."""
        temporary = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            if source.stat().st_size < _LINK_FROM or not _link(source, temporary):
                shutil.copyfile(source, temporary)
            if marked:  # before it can be found: without its mark it would be dropped again
                os.utime(temporary, ns=(int(self._now() * 1e9), _MARK_NS))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return Path(f"{self._folder}/{sha256[:2]}/{sha256}")

    def _shrink(self) -> None:
        files = []
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                found = path.stat()
                files.append((found.st_atime_ns, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda item: item[0]):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _copy_tree(source: str, target: str) -> None:
    """Copy the files below *source*: a link could be spoilt by a program that edits its own."""
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                with suppress(FileExistsError):
                    os.mkdir(path)  # noqa: PTH102 (a Path costs more than the folder)
                _copy_tree(entry.path, path)
                continue
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 (what it leads to is not ours)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)  # noqa: PTH115, PTH211
            else:
                _copy_file(entry.path, path)


def _copy_file(source: str, target: str) -> None:
    """Copy a file and its mode to *target*, which is not there yet."""
    found = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while data := os.read(found, _PIECE):
                left = memoryview(data)
                while left:
                    left = left[os.write(made, left) :]
            os.fchmod(made, stat.S_IMODE(os.fstat(found).st_mode))
        finally:
            os.close(made)
    finally:
        os.close(found)
