"""
Unpacking archives that somebody else made: zip, tar, tar.gz, tar.bz2, tar.xz.

Promises:

- An archive that holds an absolute path, a ``..``, a link, a device, or more than the limits allow
  (size, count, ratio of a bomb) raises `UnsafeArchive` and leaves nothing behind: everything goes
  into a temporary folder beside the target and is moved into place only when it is whole.
- Links are followed never and made never, but for symbolic links inside a tar that stay inside.
- Sizes are counted while they are written, so a header that lies gains nothing.

An existing file of the same name is replaced; others in the target stay.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import StorageFull, UnsafeArchive, UnsafePath

_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold."""

    size: int = 256 * 1024**3  #: bytes, unpacked
    count: int = 1_000_000  #: files and folders
    ratio: float = 500.0  #: unpacked to packed, once over `ratio_floor`
    ratio_floor: int = 64 * 1024**2  #: bytes; below it any ratio is taken


DEFAULT_LIMITS: Final = ArchiveLimits()


def is_archive(path: Path) -> bool:
    """Say whether *path* is an archive that `extract` understands, by its content."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except OSError:
        return False


def extract(
    archive: Path, target: Path, *, limits: ArchiveLimits = DEFAULT_LIMITS
) -> tuple[str, ...]:
    """
    Unpack *archive* into *target* and return the files' relative paths.

    Raises
    ------
    UnsafeArchive
        The archive is damaged, of no known kind, or holds what is not allowed.
    StorageFull
        The disk is full.
    """
    target.mkdir(parents=True, exist_ok=True)
    for left in target.glob(".unpack-*"):  # of a runner that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target))
    try:
        writer = _Writer(archive, staging, limits)
        if zipfile.is_zipfile(archive):
            _unzip(archive, writer)
        elif tarfile.is_tarfile(archive):
            _untar(archive, writer)
        else:
            raise UnsafeArchive(f"{archive.name} is neither a zip nor a tar archive")
        writer.make_links()
        _move_into(staging, target)
        return tuple(writer.files)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise UnsafeArchive(f"{archive.name} is damaged: {error}") from error
    except (NotImplementedError, UnicodeDecodeError) as error:
        raise UnsafeArchive(f"{archive.name} cannot be read: {error}") from error
    except OSError as error:
        raise StorageFull(f"cannot unpack {archive.name} into {target}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class _Writer:
    """Writes members below a folder and counts what it writes."""

    def __init__(self, archive: Path, folder: Path, limits: ArchiveLimits) -> None:
        self.files: list[str] = []
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._packed = max(1, archive.stat().st_size)
        self._written = 0
        self._count = 0
        self._links: list[tuple[str, str]] = []

    def folder(self, name: str) -> None:
        """Make a folder."""
        self._take(name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes], mode: int) -> None:
        """Write a file; only the executable bits of *mode* count."""
        path = self._take(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            while data := source.read(_CHUNK):
                self._written += len(data)
                self._check_size()
                out.write(data)
        if mode & 0o111:
            path.chmod(0o755)
        self.files.append(path.relative_to(self._folder).as_posix())

    def link(self, name: str, to: str) -> None:
        """Remember a symbolic link, which must stay inside; made when all files are there."""
        self._take(name)
        clean = posixpath.normpath(name)
        end = posixpath.normpath(posixpath.join(posixpath.dirname(clean), to))
        if to.startswith("/") or end == ".." or end.startswith("../"):
            self._refuse(f"{name!r} is a link to {to!r}, out of the archive")
        self._links.append((clean, to))

    def make_links(self) -> None:
        """
        Make the links that were remembered.

        Files were written before any link was there, so none was written through one; and a link
        whose chain leads outside is found now, when the chain is there.
        """
        for name, to in self._links:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() or path.is_symlink():
                self._refuse(f"{name!r} is there twice")
            path.symlink_to(to)
        root = self._folder.resolve()
        for name, _ in self._links:
            if not (self._folder / name).resolve().is_relative_to(root):
                self._refuse(f"{name!r} is a link that leads out of the archive")
            self.files.append(name)

    def refuse(self, why: str) -> None:
        """Raise `UnsafeArchive`."""
        self._refuse(why)

    def _take(self, name: str) -> Path:
        self._count += 1
        if self._count > self._limits.count:
            self._refuse(f"it holds more than {self._limits.count:,} entries")
        clean = name.rstrip("/")
        while clean.startswith("./"):
            clean = clean[2:]
        if clean in ("", "."):
            return self._folder
        try:
            return self._folder / check_path(clean)
        except UnsafePath as error:
            raise UnsafeArchive(f"{self._archive.name}: {error}") from None

    def _check_size(self) -> None:
        limits = self._limits
        if self._written > limits.size:
            self._refuse(f"it unpacks to more than {limits.size:,} bytes")
        if self._written > max(limits.ratio_floor, limits.ratio * self._packed):
            self._refuse(f"it unpacks to more than {limits.ratio:g} times its size (a bomb?)")

    def _refuse(self, why: str) -> None:
        raise UnsafeArchive(f"{self._archive.name}: {why}")


def _unzip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            # Made on Windows: separators may be backslashes, which zipfile leaves on Linux.
            name = info.filename.replace("\\", "/") if info.create_system == 0 else info.filename
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                writer.refuse(f"{name!r} is a link or a special file")
            if info.flag_bits & 0x1:
                writer.refuse(f"{name!r} is encrypted")
            if info.is_dir() or name.endswith("/"):
                writer.folder(name)
            else:
                with bundle.open(info) as source:
                    writer.file(name, source, mode)


def _untar(archive: Path, writer: _Writer) -> None:
    with tarfile.open(archive) as bundle, ExitStack() as stack:
        for member in bundle:
            if member.isdir():
                writer.folder(member.name)
            elif member.isreg():
                source = bundle.extractfile(member)
                if source is not None:
                    writer.file(member.name, stack.enter_context(source), member.mode)
                    stack.close()
            elif member.issym():
                writer.link(member.name, member.linkname)
            else:
                kind = "a hard link" if member.islnk() else "a device or another special file"
                writer.refuse(f"{member.name!r} is {kind}")


def _move_into(staging: Path, target: Path) -> None:
    """Move what was unpacked into *target*, replacing files of the same name."""
    for folder, folders, files in os.walk(staging):
        here = Path(folder)
        place = target / here.relative_to(staging)
        if here != staging:
            _as_folder(place)
        for name in [name for name in folders if (here / name).is_symlink()]:
            _replace(here / name, place / name)
        for name in files:
            _replace(here / name, place / name)


def _as_folder(place: Path) -> None:
    # A link that lies there already must not be walked through.
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        place.unlink()
    place.mkdir(parents=True, exist_ok=True)


def _replace(source: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    source.replace(place)


#: For callers that take an extractor as an argument.
Extract = Callable[[Path, Path], tuple[str, ...]]
