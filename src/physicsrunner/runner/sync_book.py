"""
What the sync knows of one attempt: each file on the disk, and what the server has of it.

Promises: a `Book` is changed only under its owner's lock and does no I/O. Each file is in one of
these places: in step with the server, waiting in a queue, in flight, waiting for its hash, waiting
for the server's list (`lost`: after a start or an unknown outcome), moved (gone, or another inode
under its name), or given up (with its `problem`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from physicsrunner.core.paths import artifact_path, check_path
from physicsrunner.core.sync import Known, Stamp, plan_renames
from physicsrunner.errors import AlreadyPublished, UnsafePath
from physicsrunner.runner.result import LastWords
from physicsrunner.runner.sync_disk import Disk, Found, Skipped
from physicsrunner.wire.messages import Report, StoredFile

#: Files up to so many bytes are read at once, hashed and sealed in the frame that carries them.
SMALL: Final = 1 << 20
#: What people look at live goes first.
_LIVE: Final = ("outputs/logs/", "metadata/series.jsonl", "outputs/state.txt")
#: Our own log: it goes on while the rest is sealed, so it is sealed once and then left.
_OWN_LOG: Final = "debug/"
REFUSALS: Final = 3  #: of a removal, after which the server keeps the file
#: Refusals that no other time and no other bytes will change.
FINAL: Final = frozenset({AlreadyPublished.code})


@dataclass(slots=True)  # one for every file: 100,000 of them are common
class Entry:
    """One file."""

    relative: str
    path: str  #: on the server
    local: str
    stamp: Stamp | None  #: on the disk; None: gone
    known: Known | None = None  #: on the server; None: nothing
    lost: bool = True  #: what the server has is not known: its list must be asked
    doubt: bool = False  #: the stored bytes may be wrong: compare
    sealed: Stamp | None = None  #: the server's SHA-256 is that of the file with this stamp
    digest: tuple[Stamp, str] | None = None
    hashing: bool = False
    in_flight: bool = False
    tries: int = 0
    later: bool = False  #: waits for a time (of the sender's clock)
    compare_after: float = 0.0
    problem: str | None = None  #: why it is not delivered (yet)
    given_up: bool = False

    @property
    def pending(self) -> int:
        """Bytes that are to be sent, about."""
        if self.stamp is None:
            return 0
        if self.known is None or self.doubt or self.known.size > self.stamp.size:
            return self.stamp.size
        if self.known.size == self.stamp.size and self.known.stamp is not None:
            return self.stamp.size
        return self.stamp.size - self.known.size


@dataclass
class Book:
    """The files of one attempt."""

    run: str
    attempt: int
    disk: Disk
    entries: dict[str, Entry] = field(default_factory=dict)  #: by path in the work folder
    by_path: dict[str, Entry] = field(default_factory=dict)  #: by path on the server
    skipped: dict[str, Skipped] = field(default_factory=dict)
    restless: dict[str, Skipped] = field(default_factory=dict)  #: changed after their seal
    strangers: dict[str, StoredFile] = field(default_factory=dict)  #: stored, not on the disk
    refused: dict[str, int] = field(default_factory=dict)  #: strangers: refusals to remove them
    in_the_way: set[str] = field(default_factory=set)  #: strangers that something else replaces
    queued: dict[str, str] = field(default_factory=dict)  #: relative -> name of its queue
    moved: dict[str, None] = field(default_factory=dict)  #: gone or replaced, to be told
    fresh: dict[str, None] = field(default_factory=dict)  #: of which nothing is stored
    busy: int = 0  #: entries in flight or hashing
    hashing: int = 0  #: of these, entries that are hashed
    deadline: float | None = None  #: of `Sync.finish`
    waiting: int = 0  #: entries with a later time
    unsent: bool = False  #: nothing of it was ever sent: the server's list is known to be empty
    loaded: bool = False
    loading: bool = False
    reload: bool = False  #: the list that is on its way is out of date already
    finishing: float | None = None  #: since when
    attended: bool = False  #: a thread waits for its end, and sends what is ready meanwhile
    words: LastWords | None = None  #: to go with its last files
    said: Sequence[Report] = ()  #: these words
    not_before: float = float("-inf")  #: after a final answer, the list is not asked before
    error: str | None = None  #: why nothing goes on: a final answer
    refusals: int = 0  #: final answers in a row
    bytes_sent: int = 0
    forgotten: bool = False
    news: threading.Condition | None = None  #: of the owner's lock: who waits for this attempt

    def tell(self) -> None:
        """Wake whoever waits for this attempt alone: hundreds may wait, each for its own."""
        if self.news is not None:
            self.news.notify_all()

    @property
    def key(self) -> tuple[str, int]:
        """Run and attempt."""
        return self.run, self.attempt

    def saw(self, found: Found) -> Entry | None:
        """Take note of a file on the disk; return its entry when it is to be routed."""
        entry = self.entries.get(found.relative)
        if entry is None:
            try:
                path = check_path(artifact_path(found.relative))
            except UnsafePath as error:
                self.skipped[found.relative] = Skipped(found.relative, str(error), lost=True)
                return None
            self.skipped.pop(found.relative, None)
            entry = Entry(found.relative, path, found.local, found.stamp)
            self.entries[found.relative] = self.by_path[path] = entry
            entry.lost = not self.loaded
            stored = self.strangers.pop(path, None)
            if stored is not None:
                entry.known = Known(stored.size, stored.sha256 if stored.sealed else None)
            return entry
        if entry.stamp == found.stamp and entry.local == found.local:
            return None
        entry.stamp, entry.local = found.stamp, found.local
        entry.given_up = False
        return entry

    def missed(self, relative: str) -> Entry | None:
        """Take note that a file is gone; return its entry when it is to be routed."""
        self.skipped.pop(relative, None)
        entry = self.entries.get(relative)
        if entry is None or entry.stamp is None:
            return None
        entry.stamp = entry.sealed = entry.digest = None
        entry.given_up = False
        return entry

    def forget(self, entry: Entry) -> None:
        """Drop a file that is neither here nor there."""
        self.entries.pop(entry.relative, None)
        if self.by_path.get(entry.path) is entry:
            del self.by_path[entry.path]

    def load(self, stored: dict[str, StoredFile]) -> list[Entry]:
        """Take the server's list; return the entries that waited for it."""
        waited = [entry for entry in self.entries.values() if entry.lost]
        for entry in waited:
            file = stored.get(entry.path)
            before = entry.known
            entry.lost = False
            entry.known = None
            if file is not None:
                entry.known = Known(
                    file.size,
                    file.sha256 if file.sealed else None,
                    before.file if before is not None else None,
                )
        self.strangers = {path: file for path, file in stored.items() if path not in self.by_path}
        self.loaded, self.loading = True, False
        return waited

    def in_step(self, entry: Entry) -> bool:
        """Whether the server has what the disk has (and, when finishing, has sealed it)."""
        known, stamp = entry.known, entry.stamp
        if known is None or stamp is None or entry.doubt or known.size != stamp.size:
            return False
        if self.finishing is not None:
            if entry.relative.startswith(_OWN_LOG) and entry.sealed is not None:
                return True
            return entry.sealed == stamp
        return known.stamp is None or stamp.same_content(known.stamp)

    def left_alone(self, entry: Entry) -> bool:
        """Whether this is our own log, sealed while everything else is being finished."""
        return (
            self.finishing is not None
            and entry.sealed is not None
            and entry.relative.startswith(_OWN_LOG)
        )

    def queue_of(self, entry: Entry) -> str:
        """Return the queue that *entry* waits in: urgent, small or big."""
        stamp = entry.stamp
        if stamp is None:
            return "small"
        if self.finishing is not None:
            return "small" if stamp.size <= SMALL else "big"
        if entry.pending > SMALL:
            return "big"
        growing = entry.known is not None and entry.known.size > 0
        return "urgent" if growing or entry.relative.startswith(_LIVE) else "small"

    def renames(self) -> tuple[tuple[Entry, Entry], ...]:
        """Pair what is gone under one name with what is new under another, in a safe order."""
        gone: dict[str, Known] = {}
        new: dict[str, Stamp] = {}
        for relative in (*self.moved, *self.fresh):
            entry = self.entries.get(relative)
            if entry is None or entry.in_flight or entry.hashing or entry.lost:
                continue
            if relative in self.moved and entry.known is not None:
                gone[relative] = entry.known
            if entry.stamp is not None:
                new[relative] = entry.stamp
        pairs = plan_renames(gone, new)
        return tuple((self.entries[source], self.entries[target]) for source, target in pairs)

    def leftovers(self) -> list[str]:
        """
        Return paths that are stored, no longer on the disk, and must go (after a restart).

        What was sealed stays, unless something else needs its name: somebody may have tidied up
        the work folder after a delivery.
        """
        if not (self.strangers and self.loaded):
            return []
        finishing = self.finishing is not None
        return [
            path
            for path, file in self.strangers.items()
            if (path in self.in_the_way or (finishing and not file.sealed))
            and self.refused.get(path, 0) < REFUSALS
        ]

    def make_room(self, entry: Entry) -> None:
        """Let what is stored go where *entry* has to be: a file in place of a folder, or so."""
        self.in_the_way.update(
            path
            for path in self.strangers
            if path.startswith(entry.path + "/") or entry.path.startswith(path + "/")
        )

    def speaks_with(self, count: int) -> bool:
        """Whether all is sealed when the *count* files in flight are, so that words may follow."""
        return (
            bool(self.said)
            and self.loaded
            and self.busy == count
            and not (self.queued or self.moved or self.waiting)
            and all(entry.in_flight or self.in_step(entry) for entry in self.entries.values())
            and not any(item.lost for item in self.skipped.values())
            and not self.leftovers()
        )

    def settled(self) -> bool:
        """Whether nothing is on its way or waiting any more."""
        return (
            self.loaded
            and not (self.queued or self.moved or self.busy or self.waiting)
            and not self.leftovers()
        )
