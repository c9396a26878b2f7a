"""
Which files wait to be sent, in what order, over all attempts of a `Sync`.

Promises: every call is made under the owner's lock; a file is in at most one queue, or in flight,
or waiting for a time; first come, first served within a queue. No I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from physicsrunner.runner.sync_book import Book, Entry

QUEUES: Final = ("urgent", "small", "big")
FRAME_FILES: Final = 1000
_MANY: Final = 64  #: small files that are worth a second sender
Item = tuple[Book, Entry]


class Queues:
    """The queues of one `Sync`."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[tuple[str, int, str], Item]] = {name: {} for name in QUEUES}
        self._later: list[tuple[float, int, Item]] = []
        self._count = 0
        self.moved: dict[tuple[str, int], Book] = {}  #: attempts with something gone or replaced

    def route(self, book: Book, entry: Entry) -> None:
        """Put *entry* where it belongs now. In flight or hashing: whoever has it routes it."""
        if entry.in_flight or entry.hashing or entry.later or book.forgotten:
            return
        self._leave(book, entry)
        if entry.lost:
            book.loaded = False  # its list is asked for; `Book.load` hands the entry back
            return
        stamp, known = entry.stamp, entry.known
        if stamp is None and known is None:
            book.forget(entry)
            return
        if stamp is None or (known is not None and known.file not in (None, stamp.file)):
            book.moved[entry.relative] = None
            self.moved[book.key] = book
            return
        self.enqueue(book, entry)

    def enqueue(self, book: Book, entry: Entry) -> None:
        """Put *entry* into its queue, if there is anything to be done for it."""
        if entry.given_up or book.in_step(entry) or book.left_alone(entry):
            return
        name = book.queue_of(entry)
        self._queues[name][self._key(book, entry)] = (book, entry)
        book.queued[entry.relative] = name
        if entry.known is None:
            book.fresh[entry.relative] = None

    def postpone(self, book: Book, entry: Entry, until: float) -> None:
        """Route *entry* again at the time *until*."""
        self._leave(book, entry)
        if not entry.later:
            entry.later = True
            book.waiting += 1
            self._count += 1
            heapq.heappush(self._later, (until, self._count, (book, entry)))

    def due(self, now: float) -> float | None:
        """Route what has waited long enough; return when the next one is due."""
        while self._later and self._later[0][0] <= now:
            _, _, (book, entry) = heapq.heappop(self._later)
            entry.later = False
            book.waiting -= 1
            self.route(book, entry)
            book.tell()
        return self._later[0][0] if self._later else None

    def take(self, names: Iterable[str], *, most: int, budget: int) -> list[Item]:
        """
        Take files for one frame out of the queues *names*, in their order.

        At most *most* files, and no further one once *budget* bytes are reached. They are marked
        as in flight.
        """
        taken: list[Item] = []
        for name in names:
            queue = self._queues[name]
            while queue and len(taken) < most and budget > 0:
                key = next(iter(queue))
                book, entry = queue.pop(key)
                book.queued.pop(entry.relative, None)
                book.fresh.pop(entry.relative, None)
                entry.in_flight = True
                book.busy += 1
                taken.append((book, entry))
                size = entry.stamp.size if entry.stamp is not None else 0
                budget -= size if book.finishing is not None else entry.pending
            if taken:
                break
        return taken

    def any(self, names: Iterable[str]) -> bool:
        """Whether something waits in one of the queues *names*."""
        return any(self._queues[name] for name in names)

    def much(self) -> bool:
        """Whether there is more than one sender should do: a large file, or many small ones."""
        queues = self._queues
        return bool(queues["big"]) or len(queues["small"]) + len(queues["urgent"]) >= _MANY

    def fly(self, book: Book, entry: Entry) -> None:
        """Take *entry* out of wherever it waits, and mark it as in flight."""
        self._leave(book, entry)
        entry.in_flight = True
        book.busy += 1

    def tidy(self, book: Book) -> None:
        """Forget *book* among those with something moved when it has nothing of the kind."""
        if not book.moved:
            self.moved.pop(book.key, None)

    def landed(self, book: Book, entry: Entry) -> None:
        """Mark *entry* as no longer in flight. It is to be routed next."""
        if entry.in_flight:
            entry.in_flight = False
            book.busy -= 1

    def drop(self, book: Book) -> None:
        """Take everything of *book* out."""
        for queue in self._queues.values():
            for key in [key for key in queue if key[:2] == book.key]:
                del queue[key]
        self.moved.pop(book.key, None)

    def _leave(self, book: Book, entry: Entry) -> None:
        name = book.queued.pop(entry.relative, None)
        if name is not None:
            self._queues[name].pop(self._key(book, entry), None)
        book.fresh.pop(entry.relative, None)
        book.moved.pop(entry.relative, None)
        self.tidy(book)

    @staticmethod
    def _key(book: Book, entry: Entry) -> tuple[str, int, str]:
        return book.run, book.attempt, entry.relative
