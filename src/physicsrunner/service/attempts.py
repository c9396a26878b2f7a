"""
What this process knows of the files of attempts while frames write to them.

Promises: there is one `AttemptFiles` for each attempt, shared by all frames that write to it; its
``lock`` is held for every change of what is sealed, so that what it remembers is what the store
has. Once the attempt is published, what was sealed of it stays as it is; our own records of the run
alone (below ``metadata/``) may still grow. Memory is bounded: of what no frame needs only the
latest is kept, so that a line of each of a thousand logs is a thousand writes and no question.

Lock order: `AttemptFiles.lock` (of several: by run and number), then `SpoolFile.lock`, then the
database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from physicsrunner.core.run import RunSummary
from physicsrunner.errors import AlreadyPublished
from physicsrunner.store.base import FileRow, Store
from physicsrunner.store.rows import Actor, Sealed
from physicsrunner.store.spool import Spool, SpoolFile
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import SyncResult

_ATTEMPTS: Final = 4_000  # without an open frame
_HELD: Final = 500_000  # files and rows of all of them
_FILES: Final = 2_000  # of one attempt
_ROWS: Final = 20_000  # of one attempt
_RECORDS: Final = "metadata/"


class AttemptFiles:
    """The files of one attempt. Its methods are called with ``lock`` held."""

    def __init__(self, store: Store, spool: Spool, run: str, attempt: int) -> None:
        self.run = run
        self.attempt = attempt
        self.project: str | None = None
        self.number = 0
        self.published = False
        self.known = False  #: somebody was told that files of it come
        self.lock = threading.Lock()
        self.users = 0  #: open frames
        self.weight = 0  #: files and rows that it held when a frame last left it
        self.spool = spool
        self._store = store
        self._files: dict[str, SpoolFile] = {}
        self._rows: dict[str, FileRow | None] = {}
        self._new = True  # nobody has asked for a row yet
        self._whole = False  # what is not among the rows is not sealed

    def refresh(self) -> None:
        """Ask the store what has become of the run."""
        run = self._store.summary(self.run)
        if run is not None:
            self.learn(run)

    def learn(self, run: RunSummary) -> None:
        """Take note of what the store says of the run; what is published stays published."""
        self.project, self.number = run.project_id, run.number
        self.published = self.published or run.published_attempt == self.attempt

    def take(self, path: str, owner: object) -> SpoolFile:
        """Return a file that *owner* writes from now on; whoever did so before is refused."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = self.spool.file(self.run, self.attempt, path)
        with file.lock:
            file.owner = owner
        return file

    def prefetch(self, paths: Iterable[str]) -> None:
        """Ask the store once which of *paths* are sealed."""
        if self._new:
            # Without a folder nothing has come of it, so that nothing can be sealed.
            self._whole = not self.published and not self.spool.has(self.run, self.attempt)
            self._new = False
        unknown = [path for path in dict.fromkeys(paths) if path not in self._rows]
        if self._whole:
            self._rows.update(dict.fromkeys(unknown))
        elif unknown:
            found = self._store.sealed(self.run, self.attempt, unknown)
            self._rows.update((path, found.get(path)) for path in unknown)

    def row(self, path: str) -> FileRow | None:
        """Return the row of a sealed file; None if it is not sealed."""
        if path not in self._rows:
            self.prefetch([path])
        return self._rows[path]

    def size(self) -> int:
        """Return how many files and rows are remembered."""
        return len(self._files) + len(self._rows)

    def all_rows(self) -> dict[str, FileRow]:
        """Return the rows of all files that are sealed."""
        stored = {} if self._whole else self._store.sealed(self.run, self.attempt)
        known = {path: row for path, row in self._rows.items() if row is not None}
        return {**stored, **known}  # what is just being sealed is not stored yet

    def is_sealed(self) -> bool:
        """Say whether all that ever came is sealed; if not, the stored files say what is not."""
        return self._whole and all(row is not None for row in self._rows.values())

    def check_change(self, path: str, *, amend: bool = False) -> None:
        """Raise `AlreadyPublished` if *path* is sealed for good; *amend* admits changes to it."""
        sealed = self.published and not amend and not path.startswith(_RECORDS)
        if sealed and self.row(path) is not None:
            raise AlreadyPublished(f"{path}: run {self.run} has completed with this file")

    def unseal(self, path: str, *, removed_at: float | None = None, amend: bool = False) -> None:
        """Forget that *path* is sealed, before its bytes change, if they may."""
        self.check_change(path, amend=amend)
        if self.row(path) is not None:
            self._store.unseal(self.run, self.attempt, path, removed_at=removed_at)
            self._rows[path] = None

    def sealed(self, rows: Sequence[FileRow]) -> None:
        """Note that the store has *rows*, or is about to."""
        self._rows.update((row.path, row) for row in rows)

    def refresh_for_others(self) -> None:
        """Tell other open frames what has become of the run; one that opens later asks itself."""
        if self.users > 1:
            self.refresh()

    def unsure(self, rows: Sequence[FileRow]) -> None:
        """Note that the store may have *rows*, or not."""
        self._whole = False
        for row in rows:
            self._rows.pop(row.path, None)

    def release(self, paths: Iterable[str], owner: object) -> None:
        """Let go of what *owner* wrote; keep what the next frame will continue."""
        for path in paths:
            file = self._files.get(path)
            if file is None or file.owner is not owner:
                continue
            file.owner = None
            finished = self._rows.get(path) is not None
            if finished or (file.digest is None and file.tail is None):
                del self._files[path]
        for path in list(self._files)[: max(0, len(self._files) - _FILES)]:
            if self._files[path].owner is None:
                del self._files[path]
        if len(self._rows) > _ROWS:
            self._whole = False
            self._rows.clear()


@dataclass(frozen=True)
class Taking:
    """What is to be taken together with a frame's seals, in one transaction."""

    ending: Collection[tuple[str, int]]  #: attempts whose files it must find as they are
    #: Given the results, if all goes well. Says whether it has kept the seals; raises if it failed.
    take: Callable[[Sequence[SyncResult], Sealed], bool]


class OpenAttempts:
    """The attempts that frames write to. Thread-safe."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, int], AttemptFiles] = OrderedDict()
        self._held = 0  # files and rows of all of them

    def enter(self, run: str, attempt: int, *, refresh: bool = True) -> AttemptFiles:
        """
        Return the attempt for one more frame. *run* is the id of a run in the store.

        Without *refresh* the store is not asked what has become of the run.
        """
        with self._lock:
            found = self._open.get((run, attempt))
            if found is None:
                found = AttemptFiles(self._store, self._spool, run, attempt)
                self._open[run, attempt] = found
            found.users += 1
            self._open.move_to_end((run, attempt))
        if not refresh:
            return found
        try:
            with found.lock:
                found.refresh()
        except BaseException:
            self.leave(found)
            raise
        return found

    def seal(
        self,
        sealed: Mapping[AttemptFiles, Sequence[FileRow]],
        events: Sequence[Event],
        by: Actor | None = None,
        taking: Callable[[Sealed], bool] | None = None,
    ) -> None:
        """
        Keep rows, whose bytes are on the disk, of attempts that the caller has locked.

        *taking* may keep them with what it writes itself; it says whether it has.
        """
        rows = {(target.run, target.attempt): some for target, some in sealed.items()}
        for target, some in sealed.items():
            target.sealed(some)  # as *taking* is to see them; nobody else does before the end
        try:
            if taking is None or not taking(Sealed(rows, events)):
                self._store.seal(rows, events, by=by)
        except BaseException:
            for target, some in sealed.items():
                target.unsure(some)
            raise

    def held(self, run: str, attempt: int) -> AttemptFiles | None:
        """Return an attempt that somebody has entered and locked; None: nobody has."""
        with self._lock:
            found = self._open.get((run, attempt))
            return found if found is not None and found.users and found.lock.locked() else None

    def leave(self, attempt: AttemptFiles) -> None:
        """Note that one frame fewer writes to *attempt*."""
        with self._lock:
            attempt.users -= 1
            held = attempt.size()
            self._held += held - attempt.weight
            attempt.weight = held
            for _ in range(len(self._open)):
                if len(self._open) <= _ATTEMPTS and self._held <= _HELD:
                    return
                key, oldest = next(iter(self._open.items()))
                if oldest.users:
                    self._open.move_to_end(key)
                    continue
                del self._open[key]
                self._held -= oldest.weight
