"""
The follower: what main.py and its solvers write becomes status and live series.

Promises:

- It follows outputs/state.txt, logs, the files that rules name, CSV files under outputs/plots and
  outputs/series.jsonl; it reads only new bytes, in bounded memory.
- Points are appended to metadata/series.jsonl, each once: a follower that is killed at any moment
  and started again neither loses nor repeats points (`runner.follow_book`).
- `touch` reads on what was touched, in the thread that calls it (`follow_pump.Pump` for all
  followers of a process). `finish` reads everything to its end and holds nothing back.
- A file that cannot be read, or a disk that is full, never ends a run: what could not be done is
  tried again at the next touch.

It sends nothing and decides nothing about the run.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from physicsrunner.core.points import Point
from physicsrunner.core.progress import StateParser, Status
from physicsrunner.core.series import Reader
from physicsrunner.core.series_rules import RuleSet
from physicsrunner.runner.follow_book import Book, Followed
from physicsrunner.runner.follow_eta import Outlook
from physicsrunner.runner.follow_files import STATE, Choice
from physicsrunner.runner.follow_tail import Piece, Tail
from physicsrunner.runner.workdir import WorkFolder

_MOST_FILES: Final = 500
_FALLBACK_BYTES: Final = 16 * 1024 * 1024  # a longer log is no table of values
_HOPELESS_BYTES: Final = 64 * 1024 * 1024  # a log without any solver until here has none
_QUIET_S: Final = 1.0  # so long a line without end is taken for what it will be
_LOOKUP_BYTES: Final = 256 * 1024


class Follower:
    """
    Follows one work folder.

    Parameters
    ----------
    folder
        The work folder.
    rules
        Rule sets for logs (`runner.rules.rules_for`).
    on_status
        Called with the new status whenever it changes.
    on_points
        Called with new points after they are written.
    now
        The time, POSIX seconds.
    log
        Where to tell what could not be done; None: this module's.
    redact
        Returns a text without what is to be hidden: of the names of series.
    """

    def __init__(
        self,
        folder: WorkFolder,
        *,
        rules: Sequence[RuleSet],
        on_status: Callable[[Status], None],
        on_points: Callable[[Sequence[Point]], None] | None = None,
        now: Callable[[], float],
        log: logging.Logger | None = None,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._folder = folder
        self._on_status = on_status
        self._on_points = on_points
        self._now = now
        self._choice = Choice(rules)
        self._log = log or logging.getLogger(__name__)
        self._book = Book(folder, self._choice, self._log, redact)
        self._state_tail = Tail(folder.root / STATE)
        self._state = StateParser()
        self._state_changed_at = 0.0
        self._outlook = Outlook()
        self._told: Status | None = None
        self._ignored: set[str] = set()
        self._warned = False
        self._working = threading.Lock()
        self._ending = False
        self._restless = False

    @property
    def status(self) -> Status | None:
        """The latest status, if there is one."""
        return self._told

    def touch(self, paths: Collection[Path]) -> None:
        """Look at *paths* (files or folders, absolute): they may have changed."""
        if not self._ending:
            self._work(set(paths), final=False)

    def due(self) -> float | None:
        """Return after how many seconds to touch it again, if nothing changes; None: not at all."""
        return _QUIET_S if self._restless or self._book.changed or self._book.blocked else None

    def finish(self) -> None:
        """Read everything to its end; afterwards `touch` does nothing. May be repeated."""
        self._ending = True
        self._work({self._folder.root}, final=True)

    def _work(self, touched: Collection[Path], *, final: bool) -> None:
        with self._working:
            if self._ending and not final:
                return
            self._restless = False
            if final or any(self._folder.state_file.is_relative_to(path) for path in touched):
                self._read_state(final=final)
            if not self._book.ready():
                return
            files = self._relevant(touched)
            while files and not (self._ending and not final):
                files = [file for file in files if self._advance(file, final=final)]
            if final:
                self._end()
            self._tell(final=final)
            self._book.save(self._now(), force=final)

    # -- state.txt -------------------------------------------------------------------------------

    def _read_state(self, *, final: bool) -> None:
        while True:
            piece = self._state_tail.read(final=final)
            if piece is None:
                break
            if piece.restarted:
                self._state.restart()
            self._state.feed(piece.data)
            self._restless = True  # a line that has no end yet may be all that comes
            self._state_changed_at = self._now()
            if not piece.more:
                break
        if final:
            self._state.finish()

    def _tell(self, *, final: bool) -> None:
        now = self._now()
        quiet = now - self._state_changed_at >= _QUIET_S
        said = self._state.peek(self._state_tail.waiting()) if quiet else self._state.current
        status = self._outlook.status(said, now, force=final)
        points = self._outlook.points(now, force=final)
        if points:
            self._book.write(points, now, "")
            self._publish(points)
        if status is not None and status != self._told:
            self._told = status
            self._on_status(status)

    # -- logs ------------------------------------------------------------------------------------

    def _relevant(self, touched: Iterable[Path]) -> list[Followed]:
        found: dict[str, Followed] = {}
        for path in self._files(touched):
            relative = self._relative(path)
            if relative is None or relative == STATE or relative in self._ignored:
                continue
            followed = self._book.files.get(relative) or self._begin(relative, path)
            if followed is None:
                self._ignored.add(relative)
                if len(self._ignored) > 100_000:
                    self._ignored.clear()
            else:
                found[relative] = followed
        return list(found.values())

    def _files(self, touched: Iterable[Path]) -> Iterable[Path]:
        for path in touched:
            if self._folder.outputs.is_relative_to(path):
                path = self._folder.outputs
            if not path.is_dir():
                yield path
                continue
            for folder, _, names in os.walk(path):
                for name in names:
                    yield Path(folder, name)

    def _relative(self, path: Path) -> str | None:
        try:
            return self._folder.relative(path)
        except ValueError:
            return None

    def _begin(self, relative: str, path: Path) -> Followed | None:
        readers = self._choice.readers(relative)
        if readers is None or not self._inside(path):
            return None
        if len(self._book.files) >= _MOST_FILES:
            if not self._warned:
                self._log.warning(
                    "%d files are followed for series; no more than these", _MOST_FILES
                )
                self._warned = True
            return None
        followed = self._book.files[relative] = Followed(relative, Tail(path), readers)
        return followed

    def _inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._folder.root.resolve())
        except OSError:
            return False

    def _advance(self, followed: Followed, *, final: bool) -> bool:
        hopeless = followed.tail.position > _HOPELESS_BYTES and not followed.readers.found
        if hopeless or self._book.blocked:
            return False
        piece = followed.tail.read(final=final)
        if piece is None:
            return False
        self._book.changed = self._restless = True
        if piece.restarted:
            readers = self._choice.readers(followed.path)
            if readers is not None:
                followed.readers = readers
        points = self._points(followed, piece)
        if points:
            self._publish(self._book.write(points, self._now(), followed.path))
        return piece.more

    def _points(self, followed: Followed, piece: Piece) -> list[Point]:
        text = piece.data.decode("utf-8", "replace")
        readers = followed.readers
        claims = readers.claims(text)
        fallback = followed.tail.position < _FALLBACK_BYTES
        wanting = readers.wanting(text, fallback=fallback)
        if not wanting and not claims:
            return []
        found: list[Point] = []
        for line in text.replace("\r", "\n").split("\n"):
            for claim, name in claims.items():
                if claim in line:
                    readers.program, readers.found = name, True
                    readers.fallback.clear()
                    wanting = readers.wanting(text, fallback=False)
            specific = False
            for reader in wanting:
                is_fallback = isinstance(reader, Reader) and reader.rules.fallback
                if is_fallback and specific:
                    continue
                points = reader.feed(line)
                found += points
                specific = specific or (bool(points) and not is_fallback)
            readers.found = readers.found or specific
            if specific and readers.fallback:
                readers.fallback.clear()
                wanting = readers.wanting(text, fallback=False)
        for reader in wanting:
            if isinstance(reader, Reader):
                self._look_up(reader)
                self._outlook.learn(followed.path, reader, self._now())
        return found

    def _look_up(self, reader: Reader) -> None:
        for index, name in reader.lookups():
            path = self._folder.root / name
            text = None
            if self._inside(path) and path.is_file():
                try:
                    with path.open("rb") as file:
                        text = file.read(_LOOKUP_BYTES).decode("utf-8", "replace")
                except OSError:
                    text = None
            reader.looked_up(index, text)

    def _end(self) -> None:
        self._book.changed = True
        for followed in self._book.files.values():
            points = [
                point for reader in followed.readers.all.values() for point in reader.finish()
            ]
            if points:
                self._publish(self._book.write(points, self._now(), followed.path))

    def _publish(self, points: Sequence[Point]) -> None:
        if points and self._on_points is not None:
            self._on_points(points)
