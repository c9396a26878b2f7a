"""
What a follower must not forget: positions, readers' states, and the length of series.jsonl.

Promises: metadata/series.jsonl and the book are brought to the same moment at a start. Points are
written first, the book after them (whole, by replacing it); after a kill between the two the
points are cut back to the book's moment and found again. Where the book is lost, both start anew.
A full disk loses nothing: points wait in memory, and nothing more is read meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from physicsrunner.core.points import Point
from physicsrunner.runner.follow_files import Choice, Readers
from physicsrunner.runner.follow_tail import Tail
from physicsrunner.runner.workdir import WorkFolder

_VERSION: Final = 1
_EVERY_S: Final = 0.5
_MOST_SERIES: Final = 1_000


@dataclass
class Followed:
    """One file that is followed."""

    path: str  #: relative to the work folder
    tail: Tail
    readers: Readers


class Book:
    """The files that are followed in one work folder, and the points found."""

    def __init__(
        self,
        folder: WorkFolder,
        choice: Choice,
        log: logging.Logger,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.files: dict[str, Followed] = {}
        self._redact = redact
        self._folder = folder
        self._choice = choice
        self._log = log
        self._path = folder.control / "follow.json"
        self._size = 0  # of series.jsonl
        self._waiting = b""  # lines that the disk did not take
        self._owners: dict[str, str] = {}  # series -> the file that has it
        self.changed = False  #: something was read since the book was written
        self._saved_at = float("-inf")
        self._load()

    @property
    def blocked(self) -> bool:
        """The disk takes no points: nothing more is to be read."""
        return bool(self._waiting)

    def ready(self) -> bool:
        """Write what the disk did not take before; tell whether reading can go on."""
        if self._waiting:
            self._append()
        return not self._waiting

    def write(self, points: Sequence[Point], now: float, source: str) -> list[Point]:
        """Append *points* of the file *source*; return them as they are named in the run."""
        named = []
        for point in map(self._shown, points):
            name = self._name(point.series, source)
            if name is not None:
                named.append(point if name == point.series else replace(point, series=name))
        if named:
            self.changed = True
            self._waiting += "".join(f"{point.to_json(now)}\n" for point in named).encode(
                "utf-8",
                "replace",  # names may come from a file's name, which may be any bytes
            )
            self._append()
        return named

    def save(self, now: float, *, force: bool) -> None:
        """Write the book, at most twice a second unless *force*."""
        if not self.changed or self._waiting:
            return
        if not force and now - self._saved_at < _EVERY_S:
            return
        book = {
            "version": _VERSION,
            "series_size": self._size,
            "owners": self._owners,
            "files": {
                path: {
                    "tail": followed.tail.state(),
                    "program": followed.readers.program,
                    "found": followed.readers.found,
                    "readers": {n: each.state() for n, each in followed.readers.all.items()},
                }
                for path, followed in self.files.items()
            },
        }
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(book, separators=(",", ":")), "utf-8")
            temporary.replace(self._path)
        except OSError as error:
            self._log.warning("%s cannot be written: %s", self._path, error)
            return
        self.changed, self._saved_at = False, now

    def _shown(self, point: Point) -> Point:
        """Return *point* with nothing in its words that is to be hidden."""
        words = f"{point.series}\n{point.x_name}\n{point.unit or ''}"
        if self._redact(words) == words:
            return point
        unit = None if point.unit is None else self._redact(point.unit)
        series, x_name = self._redact(point.series), self._redact(point.x_name)
        return replace(point, series=series, x_name=x_name, unit=unit)

    def _name(self, series: str, source: str) -> str | None:
        # A second file with the same series (standard output beside log.lammps) is told apart.
        stem = PurePosixPath(source).stem
        for name in (series, f"{stem}/{series}", f"{source}/{series}"):
            if len(self._owners) >= _MOST_SERIES and name not in self._owners:
                return None
            if self._owners.setdefault(name, source) == source:
                return name
        return None

    def _append(self) -> None:
        path = self._folder.series_file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                try:
                    data = memoryview(self._waiting)
                    while data:
                        data = data[file.write(data) or 0 :]
                except OSError:
                    os.ftruncate(file.fileno(), self._size)
                    raise
        except OSError as error:
            self._log.warning("%s cannot be written, points wait: %s", path, error)
            return
        self._size += len(self._waiting)
        self._waiting = b""

    # -- a start ---------------------------------------------------------------------------------

    def _load(self) -> None:
        path = self._folder.series_file
        size = path.stat().st_size if path.exists() else 0
        try:
            book = json.loads(self._path.read_text("utf-8"))
            if book["version"] != _VERSION or book["series_size"] > size:
                raise ValueError("the book and series.jsonl do not belong together")
            self.files = {name: self._followed(name, kept) for name, kept in book["files"].items()}
            self._owners = dict(book["owners"])
            self._size = int(book["series_size"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("%s is of no use, logs are read anew: %s", self._path, error)
            self.files, self._owners, self._size = {}, {}, 0
        if size > self._size:
            os.truncate(path, self._size)

    def _followed(self, path: str, kept: Any) -> Followed:
        readers = self._choice.readers(path)
        if readers is None:
            raise ValueError(f"{path} is followed no more")
        followed = Followed(path, Tail(self._folder.root / path), readers)
        followed.tail.restore(kept["tail"])
        readers.program, readers.found = kept["program"], bool(kept["found"])
        for name, reader in readers.all.items():
            if name in kept["readers"]:
                reader.restore(kept["readers"][name])
        for name in list(readers.fallback):
            if name not in kept["readers"]:
                del readers.fallback[name]
        return followed
