"""
Looking at the disk for the sync: what was touched, and what became of it.

Promises:

- `touch` is quick and may be called from any thread.
- After a hint only that path is looked at; a folder is walked when all of it is meant, and a large
  one not more often than a small share of the time allows.
- A file that appears while a folder is walked is not taken for gone.

It reads names, sizes and times, never bytes, and changes nothing on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from physicsrunner.runner.sync_bells import Bells
from physicsrunner.runner.sync_book import Book
from physicsrunner.runner.sync_disk import Found, Seen, Skipped
from physicsrunner.runner.sync_queue import Queues

#: A scan may take this share of the time.
_SCAN_SHARE: Final = 20.0


class Looker:
    """
    Brings books up to date with the disk.

    Parameters
    ----------
    queues
        Where what changed waits for its turn.
    bells
        The lock of the books and queues, and who is to be woken.
    now
        The wall clock, POSIX seconds.
    """

    def __init__(self, queues: Queues, bells: Bells, now: Callable[[], float]) -> None:
        self._queues = queues
        self._bells = bells
        self._now = now
        self._roots: dict[str, Book] = {}
        self._touched: set[str] = set()
        self._scans: dict[str, None] = {}
        self._scanned: dict[str, tuple[float, float]] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing was touched since the last `look`. Under the lock."""
        return not (self._touched or self._scans)

    def add(self, book: Book, *, look: bool) -> None:
        """Look after *book* from now on, at all of it first if *look*. Under the lock."""
        self._roots[book.disk.root] = book
        if look:
            self._scans[book.disk.root] = None
            self._bells.look.notify()

    def remove(self, book: Book) -> None:
        """Look at it no more. Under the lock."""
        for known in (self._roots, self._scans, self._scanned):
            known.pop(book.disk.root, None)

    def touch(self, paths: Collection[Path]) -> None:
        """Hint that something at *paths* changed. A followed folder, or one above: all of it."""
        with self._bells:
            for path in paths:
                text = str(path)
                if text in self._roots:
                    self._scans[text] = None
                elif self._book_of(text) is not None:
                    self._touched.add(text)
                else:
                    # A folder with work folders below it: what FolderWatch says for "everything".
                    below = text.rstrip("/") + "/"
                    for root in self._roots:
                        if root.startswith(below):
                            self._scans[root] = None
            if not self.idle:
                self._bells.look.notify()

    def again(self, book: Book, relative: str) -> None:
        """Look at one path of *book* once more. Under the lock."""
        self._touched.add(f"{book.disk.root}/{relative}")
        self._bells.look.notify()

    def look(self) -> bool:
        """Look at everything that was touched; return whether there was anything."""
        with self._bells:
            touched, self._touched = self._touched, set()
            scans, self._scans = list(self._scans), {}
        for path in touched:
            with self._bells:
                book = self._book_of(path)
            relative = book.disk.relative(path) if book is not None else None
            if book is not None and relative is not None:
                self._look_at(book, relative)
        if touched:
            # When all is seen: of a file that was renamed, both its names.
            with self._bells:
                self._bells.send()
        for root in scans:
            with self._bells:
                book = self._roots.get(root)
                last, took = self._scanned.get(root, (float("-inf"), 0.0))
            # A folder of a million files is not walked every five seconds.
            if book is not None and abs(self._now() - last) >= took * _SCAN_SHARE:
                self.scan(book)
        return bool(touched or scans)

    def scan(
        self,
        book: Book,
        below: str = "",
        *,
        finish: bool = False,
        on_seen: Callable[[Sequence[Seen]], None] | None = None,
    ) -> bool:
        """
        Compare the disk with what is known of it; return whether anything was new.

        Parameters
        ----------
        below
            A folder in the work folder; empty: all of it.
        finish
            From now on everything is to be sealed.
        on_seen
            Called with what is on the disk before anything of it is sent.
        """
        start = self._now()
        with self._bells:
            # Only what was known before the walk can be missed by it.
            before = set(book.entries) | set(book.skipped)
        seen = list(book.disk.walk(below))
        if on_seen is not None:
            on_seen(seen)
        there = {item.relative for item in seen}
        prefix = below + "/" if below else ""
        with self._bells:
            if book.forgotten:
                return False
            new = finish
            if finish:
                self._begin_to_finish(book)
            for item in seen:
                new = self._take(book, item, item.relative) or new
            for relative in before - there:
                if relative.startswith(prefix) or relative == below:
                    new = self._take(book, None, relative) or new
            now = self._now()
            if not below:
                self._scanned[book.disk.root] = (now, max(0.0, now - start))
            book.tell()
            self._bells.send(live=new and not book.attended)
        return new

    def _book_of(self, path: str) -> Book | None:
        """Return the book whose work folder holds *path* (not: is it)."""
        end = len(path)
        while (end := path.rfind("/", 0, end)) > 0:
            book = self._roots.get(path[:end])
            if book is not None:
                return book
        return None

    def _look_at(self, book: Book, relative: str) -> None:
        seen = book.disk.look(relative)
        if isinstance(seen, str):
            self.scan(book, seen)
            return
        with self._bells:
            if book.forgotten:
                return
            if seen is None and relative not in book.entries:
                # Perhaps a folder with files of ours: they are gone with it.
                below = relative + "/"
                for name in [name for name in book.entries if name.startswith(below)]:
                    self._take(book, None, name)
            self._take(book, seen, relative)
            book.tell()

    def _begin_to_finish(self, book: Book) -> None:
        """From now on everything is to be sealed."""
        book.finishing = self._now()
        book.not_before = float("-inf")
        book.refusals, book.error = 0, None
        if book.unsent and not book.loaded and not book.loading:
            book.unsent = False
            book.load({})
        for entry in list(book.entries.values()):
            entry.given_up = False
            self._queues.route(book, entry)

    def _take(self, book: Book, seen: Found | Skipped | None, relative: str) -> bool:
        """Take note of one path, under the lock; return whether it was news."""
        if isinstance(seen, Found):
            entry = book.saw(seen)
            sealed = book.finishing is not None and entry is not None and entry.sealed is not None
            if sealed and not book.left_alone(book.entries[relative]):
                reason = "it still changes: what came after its last seal"
                book.restless[relative] = Skipped(relative, reason)
        else:
            entry = book.missed(relative)
            if isinstance(seen, Skipped):
                book.skipped[relative] = seen
        if entry is not None:
            self._queues.route(book, entry)
        return entry is not None and not book.left_alone(entry)
