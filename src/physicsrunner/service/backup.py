"""
A copy of a server's data, taken while it runs, and the way back.

A backup is a folder, or the same in one .tar or .tar.gz: ``manifest.json`` (written last: without
it there is no backup), the database (``physicsrunner.db``, of a server with PostgreSQL
``tables/``), the keys, and the files of runs, models and inputs as they lie in the data folder.

Promises: the database is one state of it, and every file that is sealed in that state is there,
unless it was deleted meanwhile. A backup and what is restored are readable by their owner alone.
Nothing is written over: a target that is not empty is refused. Restoring checks nothing but the
form; `service.check` compares database and files.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from physicsrunner.errors import Conflict, InvalidRequest, NotFound, StorageFull, UsageError
from physicsrunner.service.access import ADMIN_FILE
from physicsrunner.service.secrets import ENCRYPTION_FILE, KEY_FILE
from physicsrunner.store.database import Database
from physicsrunner.store.dump import count, dump, load
from physicsrunner.store.migrate import HEAD, upgrade

FORMAT: Final = 1
DATABASE: Final = "physicsrunner.db"
KEYS: Final = (KEY_FILE, ENCRYPTION_FILE, ADMIN_FILE)
FOLDERS: Final = ("models", "inputs", "simulations")
_MANIFEST: Final = "manifest.json"
_TABLES: Final = "tables"
_TAR: Final = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Backup:
    """What was saved or restored."""

    place: str
    made: float  #: POSIX seconds
    version: str  #: of physicsrunner
    database: str  #: sqlite or postgresql
    runs: int
    files: int
    bytes: int
    format: int = FORMAT


def backup(data: Path, target: Path, *, database: str | None, now: float, version: str) -> Backup:
    """
    Save the data folder, and its database, into *target*.

    Parameters
    ----------
    target
        A folder that is empty or not there, or the name of a new .tar, .tar.gz or .tgz file.
    database
        The URL; None: SQLite in the data folder.
    version
        Of physicsrunner, to be kept in the manifest.
    """
    if target.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"{target} lies in the data folder {data}; choose another place")
    if not data.is_dir():
        raise NotFound(f"there is no data folder {data}")
    if _is_archive(target):
        return _into_archive(data, target, database, now, version)
    _refuse_used(target)
    with _no_room(target):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _into_folder(data, target, database, now, version)


def restore(source: Path, data: Path, *, database: str | None) -> Backup:
    """
    Make the data folder *data*, and its database, from a backup.

    Parameters
    ----------
    database
        The URL, of a database without rows; None: SQLite in the data folder.
    """
    _refuse_used(data)
    with _opened(source) as folder:
        known = _manifest(folder, source)
        part = data.with_name(f".{data.name}.restoring-{os.getpid()}")
        with _no_room(data):
            data.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.mkdir(mode=0o700)
                for name in KEYS:
                    with suppress(FileNotFoundError):
                        _copy(folder / name, part / name)
                for name in FOLDERS:
                    _copy_tree(folder / name, part / name)
                _restore_database(folder, part, known.database, database)
                _flush()
                with suppress(FileNotFoundError):
                    data.rmdir()
                part.rename(data)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return known


def save_before_upgrade(file: Path) -> Path | None:
    """
    Copy a SQLite database whose tables are older than ours; return the copy, None without need.

    It lies beside the database and is made once for each release of the tables.
    """
    if not file.is_file():
        return None
    with closing(sqlite3.connect(file)) as here:
        try:
            found = here.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.Error:
            return None  # no table of ours, or no database: opening it says what is wrong
        if found is None or found[0] >= HEAD:
            return None
        copy = file.with_name(f"{file.name}.{found[0]}")
        if copy.exists():
            return copy
        part = file.with_name(f".{copy.name}.part")
        with _no_room(copy):
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            with closing(sqlite3.connect(part)) as there:
                here.backup(there)
            _flush()
            part.rename(copy)
    return copy


def _into_folder(
    data: Path, target: Path, database: str | None, now: float, version: str
) -> Backup:
    # The database first: what is sealed in it is on the disk then, and is copied afterwards.
    kind, runs = _save_database(data, target, database)
    for name in KEYS:
        with suppress(FileNotFoundError):
            _copy(data / name, target / name)
    files = size = 0
    for name in FOLDERS:
        more, bytes_ = _copy_tree(data / name, target / name)
        files, size = files + more, size + bytes_
    made = Backup(str(target), now, version, kind, runs, files, size)
    _flush()
    text = json.dumps(asdict(made), indent=2) + "\n"
    (target / _MANIFEST).write_text(text, encoding="utf-8")
    _flush()
    return made


def _into_archive(
    data: Path, target: Path, database: str | None, now: float, version: str
) -> Backup:
    if target.exists():
        raise Conflict(f"{target} is there already; nothing is written over")
    part = target.with_name(f".{target.name}.part")
    with _no_room(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as place:
                folder = Path(place)
                made = _into_folder(data, folder, database, now, version)
                _pack(folder, part, compressed=not target.name.endswith(".tar"))
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
    return Backup(**{**asdict(made), "place": str(target)})


def _pack(folder: Path, part: Path, *, compressed: bool) -> None:
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        with (
            tarfile.open(fileobj=out, mode="w:gz", compresslevel=1)
            if compressed
            else tarfile.open(fileobj=out, mode="w")
        ) as tar:
            tar.add(folder, arcname=".")
        out.flush()
        os.fsync(out.fileno())


def _unpack(source: Path, folder: Path) -> None:
    """Take the files out of an archive; links, devices and paths that lead out are refused."""
    with tarfile.open(source) as tar:
        for member in tar:
            path = Path(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                raise InvalidRequest(f"{source} holds {member.name!r}, which no backup of ours has")
            if member.isdir():
                (folder / path).mkdir(mode=0o700, parents=True, exist_ok=True)
                continue
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101 - it is a file
            with content, (folder / path).open("xb") as out:
                shutil.copyfileobj(content, out, 1 << 20)


def _save_database(data: Path, target: Path, url: str | None) -> tuple[str, int]:
    """Save the database; return its kind and how many runs it has."""
    file = data / DATABASE
    if url is None or url.startswith("sqlite"):
        file = file if url is None else Path(url.partition("///")[2])
        if not file.is_file():
            raise NotFound(f"there is no database {file}")
        copy = target / DATABASE
        copy.touch(mode=0o600)
        # SQLite's own copy of a database that others write to: one state of it, page by page.
        with closing(sqlite3.connect(file)) as here, closing(sqlite3.connect(copy)) as there:
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")
            (runs,) = there.execute("SELECT count(*) FROM runs").fetchone()
        return "sqlite", int(runs)
    with closing(Database(url)) as database:
        return "postgresql", dump(database, target / _TABLES)["runs"]


def _restore_database(folder: Path, part: Path, kind: str, url: str | None) -> None:
    if kind == "sqlite" and url is None:
        _copy(folder / DATABASE, part / DATABASE)
        with closing(Database(f"sqlite:///{part / DATABASE}")) as database:
            upgrade(database)
        return
    with closing(Database(url or f"sqlite:///{part / DATABASE}")) as database:
        upgrade(database)
        if sum(count(database).values()):
            raise Conflict("the database is not empty; restore into one without rows")
        if kind == "postgresql":
            load(database, folder / _TABLES)
            return
        with tempfile.TemporaryDirectory(prefix="physicsrunner-tables-") as place:
            copy, tables = Path(place) / DATABASE, Path(place) / _TABLES
            _copy(folder / DATABASE, copy)
            with closing(Database(f"sqlite:///{copy}")) as old:
                upgrade(old)
                dump(old, tables)
            load(database, tables)


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """Give the folder of a backup, taken out of its archive where it is one."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise NotFound(f"there is no backup {source}")
    with tempfile.TemporaryDirectory(prefix="physicsrunner-restore-") as place:
        try:
            _unpack(source, Path(place))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InvalidRequest(f"{source} is no whole archive: {error}") from None
        yield Path(place)


def _manifest(folder: Path, source: Path) -> Backup:
    try:
        known = Backup(**json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidRequest(f"{source} is no backup, or one that was not finished") from None
    except (ValueError, TypeError):
        raise InvalidRequest(f"{source}: its {_MANIFEST} cannot be read") from None
    if known.format != FORMAT:
        raise InvalidRequest(
            f"{source} is of a newer physicsrunner ({known.version}); update first"
        )
    return known


def _refuse_used(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is not empty; nothing is written over")


def _is_archive(path: Path) -> bool:
    return path.name.endswith(_TAR)


def _copy(source: Path, target: Path) -> int:
    """Copy one file, readable by its owner alone; return its size."""
    with source.open("rb") as file:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
            return out.tell()


def _copy_tree(source: Path, target: Path) -> tuple[int, int]:
    """Copy the regular files of a tree; return their number and bytes."""
    target.mkdir(mode=0o700, exist_ok=True)
    files = size = 0
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            path = Path(folder) / name
            if name.endswith(".part") or path.is_symlink() or not path.is_file():
                continue
            with suppress(FileNotFoundError):  # deleted while we looked
                size += _copy(path, place / name)
                files += 1
    return files, size


def _flush() -> None:
    """Have all that was written on the disk."""
    os.sync()


@contextmanager
def _no_room(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageFull(f"the database cannot be copied to {target}: {error}") from error
    except OSError as error:
        raise StorageFull(f"{target} cannot be written: {error.strerror}") from error
