"""
The database against the files on the disk, by digest.

Promises: it reads, and changes nothing, also beside a running server; every sealed file of every
run, every model and every uploaded input is hashed. What it finds is one of three: missing, changed
(another size or another SHA-256) or orphaned (of a run, model or input that the database does not
know). A file that is not sealed belongs to a run under way, or is what one left that failed:
neither. `remove_orphans` removes the orphans that a check found and nothing else, and none that
is younger than ten minutes: it may belong to a request that is under way.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import func, select, text

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.store import schema
from physicsrunner.store.database import Database
from physicsrunner.store.digest import file_digest

YOUNG_S: Final = 600.0
_ID: Final = re.compile(r"[0-9a-f-]{36}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass
class Found:
    """What a check found; paths are relative to the data folder."""

    files: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    database: list[str] = field(default_factory=list)  #: what is wrong in the database itself
    removed: list[str] = field(default_factory=list)  #: orphans that were removed

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, or all that was is removed."""
        left = set(self.orphaned) - set(self.removed)
        return not (self.missing or self.changed or self.database or left)


@dataclass(frozen=True)
class _Expected:
    path: str
    size: int
    sha256: str


def check(data: Path, database: Database, *, now: float) -> Found:
    """Compare everything. *now*: POSIX seconds, for what is too young to be an orphan."""
    found = Found()
    found.database += _damage(database)
    for expected in _expected(database):
        _compare(data, expected, found)
    found.orphaned += sorted(_orphans(data, database, now))
    return found


def remove_orphans(data: Path, database: Database, found: Found, *, now: float) -> None:
    """Remove the orphans that *found* names, where they still are that."""
    still = set(_orphans(data, database, now))
    for name in found.orphaned:
        if name not in still:
            continue
        path = data / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        found.removed.append(name)


def _expected(database: Database) -> Iterator[_Expected]:
    """Iterate over all files that the database knows to be whole."""
    files, versions, uploads = schema.files.c, schema.model_versions.c, schema.uploads.c
    with database.read() as connection:
        for run, attempt, path, size, sha256 in connection.execution_options(
            yield_per=1000
        ).execute(select(files.run_id, files.attempt, files.path, files.size, files.sha256)):
            yield _Expected(f"simulations/{run}/attempts/{attempt}/{path}", size, sha256)
        query = select(versions.version, versions.size, versions.sha256).distinct()
        for version, size, sha256 in connection.execute(query):
            yield _Expected(f"models/{version}.zip", size, sha256)
        for sha256, size in connection.execute(select(uploads.sha256, uploads.size)):
            yield _Expected(f"inputs/{sha256}", size, sha256)


def _compare(data: Path, expected: _Expected, found: Found) -> None:
    path = data / expected.path
    if path.is_symlink() or not path.is_file():
        found.missing.append(expected.path)
        return
    try:
        sha256, size = file_digest(path)
    except FileNotFoundError:
        found.missing.append(expected.path)
        return
    except (OSError, PhysicsRunnerError) as error:
        found.changed.append(f"{expected.path} (cannot be read: {error})")
        return
    found.files += 1
    found.bytes += size
    if (size, sha256) != (expected.size, expected.sha256):
        found.changed.append(expected.path)


def _orphans(data: Path, database: Database, now: float) -> Iterator[str]:
    """Iterate over what the database does not know, and is old enough to be judged."""
    for folder, suffix, form, table in (
        ("simulations", "", _ID, schema.runs.c.id),
        ("models", ".zip", _SHA256, schema.model_versions.c.version),
        ("inputs", "", _SHA256, schema.uploads.c.sha256),
    ):
        names = {
            entry.name.removesuffix(suffix): entry
            for entry in _entries(data / folder)
            if _is_old(entry, now)
        }
        candidates = [name for name in names if form.fullmatch(name)]
        known: set[str] = set()
        with database.read() as connection:
            for some in _chunks(candidates):
                known |= set(connection.execute(select(table).where(table.in_(some))).scalars())
        yield from (f"{folder}/{names[name].name}" for name in names if name not in known)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _is_old(path: Path, now: float) -> bool:
    try:
        return path.lstat().st_mtime < now - YOUNG_S
    except FileNotFoundError:
        return False


def _chunks(names: list[str], size: int = 500) -> Iterable[list[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def _damage(database: Database) -> list[str]:
    """Return what is wrong in the database itself: its pages, its references, its counters."""
    found = []
    with database.read() as connection:
        if database.dialect == "sqlite":
            pages = connection.execute(text("PRAGMA quick_check")).scalars().all()
            found += [f"SQLite: {line}" for line in pages if line != "ok"]
            loose = connection.execute(text("PRAGMA foreign_key_check")).all()
            found += [f"{row[0]}: a row refers to a {row[2]} that is not there" for row in loose]
        runs, counts = schema.runs.c, schema.run_counts.c
        real: Counter[str] = Counter()
        for status, number in connection.execute(
            select(runs.status, func.count()).group_by(runs.status)
        ):
            real[status] = number
        kept: Counter[str] = Counter()
        for status, number in connection.execute(
            select(counts.status, counts.runs).where(counts.kind == "all")
        ):
            kept[status] = number
        for status in sorted(real.keys() | kept.keys()):
            if real[status] != kept[status]:
                found.append(f"{real[status]} runs are {status}, the counter says {kept[status]}")
    return found
