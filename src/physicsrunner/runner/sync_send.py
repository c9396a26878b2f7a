"""
Sending: takes files out of the queues, makes frames, sends them, and settles the results.

Promises: no file is in two frames at once; an outcome that is not known makes its files `lost`,
and nothing more of them is sent before the server was asked what it has. A failure is waited for
by both senders. The lock is never held during I/O.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from physicsrunner.client.uplink import Outgoing, Uplink
from physicsrunner.core.retry import Backoff
from physicsrunner.core.sync import racy
from physicsrunner.errors import PhysicsRunnerError, StorageFull, TooLarge
from physicsrunner.runner.sync_bells import Bells
from physicsrunner.runner.sync_book import FINAL, SMALL, Book, Entry
from physicsrunner.runner.sync_disk import digest
from physicsrunner.runner.sync_frame import PASSING, Prepared, Preparer, settle
from physicsrunner.runner.sync_moves import Moves, claim_moves
from physicsrunner.runner.sync_queue import FRAME_FILES, Item, Queues
from physicsrunner.runner.sync_words import exchange
from physicsrunner.wire.messages import SyncResult

#: Queues by sender: the live one never carries a large file.
LIVE: Final = ("urgent", "small")
BULK: Final = ("big", "small", "urgent")
FRAME_BYTES: Final = 8 << 20  # of small files
_BULK_MIN: Final = 16 << 20
_BULK_MAX: Final = 1 << 30
_BULK_FIRST: Final = 64 << 20
_BULK_S: Final = 4.0  #: seconds that a frame of large files should take
RACY_S: Final = 0.02
_TRIES: Final = 6  #: refusals of one file before it is given up
_IDLE_S: Final = 60.0
_LONGEST_S: Final = 3600.0
_BULK_MEMORY: Final = 16 << 10  #: of one file in a frame of large ones; the rest is streamed


class Sender:
    """What `Sync`'s two sending threads do."""

    def __init__(
        self,
        uplink: Uplink,
        queues: Queues,
        books: dict[tuple[str, int], Book],
        bells: Bells,
        *,
        now: Callable[[], float],
        random: Callable[[], float],
        backoff: Backoff,
        log: logging.Logger,
        look_again: Callable[[Book, str], None],
        hash_it: Callable[[Callable[[Callable[[], bool]], None]], None],
    ) -> None:
        self._uplink = uplink
        self._queues = queues
        self._books = books
        self._bells = bells
        self._now = now
        self._random = random
        self._backoff = backoff
        self._log = log
        self._look_again = look_again
        self._hash_it = hash_it
        self._preparer = Preparer(uplink)
        self._failures = 0
        self._not_before = float("-inf")
        self._small_bytes = FRAME_BYTES
        self._bulk_bytes = _BULK_FIRST
        self._bulk_most = _BULK_MAX
        self._full = False  #: that the server's disk is full has been said
        self.trouble: str | None = None  #: why the last request failed; None: it did not

    def loop(self, lane: tuple[str, ...], closing: threading.Event) -> None:
        """Send until *closing*."""
        bell = self._bells.bulk if lane is BULK else self._bells.live
        while not closing.is_set():
            if self.once(lane):
                continue
            with self._bells:
                # What is small is the other sender's, as long as that is enough.
                wait = self.wait_s(lane) if lane is LIVE or self._bells.helps else _IDLE_S
                if wait > 0 and not closing.is_set():
                    bell.wait(wait)

    def once(self, lane: tuple[str, ...]) -> bool:
        """Do one piece of work, if there is one."""
        with self._bells:
            now = self._now()
            self._queues.due(now)
            if self._held_back(now):
                return False
            book = self._to_load(now)
            moved = None
            if book is None and (mover := self._movable()) is not None:
                moved = claim_moves(mover, self._queues, self._uplink.operations)
            items: list[Item] = []
            large = "big" in lane and self._queues.any(("big",))
            if book is None and moved is None:
                items = self._claim(lane, now, large)
        if book is not None:
            self._load(book)
        elif moved is not None:
            with self._bells.slow():
                self._send_moves(moved)
        elif items:
            self._send(items, large)
        else:
            return False
        return True

    def wait_s(self, lane: tuple[str, ...]) -> float:
        """Return the seconds until there may be something to do. Under the lock."""
        now = self._now()
        times = [now + _IDLE_S]
        due = self._queues.due(now)
        if due is not None:
            times.append(due)
        if self._held_back(now):
            return max(0.001, min(*times, self._not_before) - now)
        times += [book.not_before for book in self._books.values() if not book.loaded]
        if self._queues.any(lane) or self._to_load(now, claim=False) or self._movable():
            return 0.0
        return max(0.001, min(times) - now)

    def _held_back(self, now: float) -> bool:
        # A clock that was set back must not hold us for hours.
        return now < self._not_before <= now + _LONGEST_S

    # -- the server's list -----------------------------------------------------------------------

    def _to_load(self, now: float, *, claim: bool = True) -> Book | None:
        for book in self._books.values():
            if not book.loaded and not book.loading and book.not_before <= now:
                book.loading = claim
                return book
        return None

    def _load(self, book: Book) -> None:
        try:
            with nullcontext() if book.unsent else self._bells.slow():
                stored = {} if book.unsent else dict(self._uplink.files(book.run, book.attempt))
            book.unsent = False
        except Exception as error:
            with self._bells:
                book.loading = False
                self._failed(error, [book])
            return
        with self._bells:
            self._went_well([book])
            if book.reload:  # something became unknown while the list was on its way
                book.reload = book.loading = False
                return
            for entry in book.load(stored):
                self._queues.route(book, entry)
            book.tell()
            self._bells.send()

    # -- what is gone or renamed -----------------------------------------------------------------

    def _movable(self) -> Book | None:
        """Return an attempt with something gone or replaced, or stored and no longer there."""
        for book in self._queues.moved.values():
            if book.loaded:
                return book
        for book in self._books.values():
            if book.strangers and book.leftovers():
                return book
        return None

    def _send_moves(self, moves: Moves) -> None:
        book = moves.book
        try:
            results = self._uplink.send([Outgoing(op) for op in moves.ops()])
        except Exception as error:
            with self._bells:
                if moves.leftovers:
                    book.loaded = False
                self._lose([(book, entry) for entry in moves.entries])
                self._failed(error, [book])
            return
        with self._bells:
            self._went_well([book])
            refused = moves.settle(results)
            if refused:
                wait = self._backoff.wait(refused, random=self._random)
                book.not_before = self._now() + wait
            for entry in moves.entries:
                self._queues.landed(book, entry)
            for entry in moves.entries:
                if book.entries.get(entry.relative) is entry:
                    self._queues.route(book, entry)
            book.tell()
            self._bells.send()

    # -- bytes -----------------------------------------------------------------------------------

    def _claim(self, lane: tuple[str, ...], now: float, large: bool) -> list[Item]:
        budget = self._bulk_bytes if large else self._small_bytes
        items = []
        for book, entry in self._queues.take(lane, most=FRAME_FILES, budget=budget):
            stamp = entry.stamp
            if book.finishing is not None and stamp is not None and racy(stamp, now, RACY_S):
                # What is sealed must not be able to change under an equal stamp.
                self._queues.landed(book, entry)
                self._queues.postpone(book, entry, stamp.ctime_ns / 1e9 + RACY_S)
                continue
            items.append((book, entry))
        return items

    def _send(self, items: Sequence[Item], large: bool) -> None:
        start = time.perf_counter()
        parts: list[Prepared] = []
        try:
            left, memory = (self._bulk_bytes, _BULK_MEMORY) if large else (self._small_bytes, SMALL)
            for book, entry in items:
                part = self._preparer.prepare(
                    book, entry, budget=left, memory=memory, now=self._now()
                )
                left = max(SMALL, left - part.count)
                parts.append(part)
            batch = [item for part in parts for item in part.ops]
            hashing = [part for part in parts if part.hash_it]
            self._start_hashing(hashing)
            with self._patience(sum(part.count for part in parts), large):
                results = exchange(self._uplink, self._bells, batch, parts) if batch else []
        except Exception as error:
            with self._bells:
                self._lose(items)
                self._failed(error, list({id(book): book for book, _ in items}.values()))
            return
        took = time.perf_counter() - start
        with self._bells:
            if batch:
                self._went_well(part.book for part in parts)
                self._measured(sum(part.count for part in parts), took)
            at = 0
            for part in parts:
                mine = results[at : at + len(part.ops)]
                at += len(part.ops)
                self._settle(part, mine, took)
            for book in {id(part.book): part.book for part in parts}.values():
                book.tell()
            self._bells.send(live=large)

    def _patience(self, count: int, large: bool) -> AbstractContextManager[None]:
        return nullcontext() if large or count <= SMALL else self._bells.slow()

    def _settle(self, part: Prepared, results: Sequence[SyncResult], took: float) -> None:
        book, entry, now = part.book, part.entry, self._now()
        self._queues.landed(book, entry)
        if part.put_off:
            self._queues.postpone(book, entry, entry.compare_after)
            return
        if part.problem is not None:
            self._unreadable(part, now)
            return
        if part.changed:
            self._look_again(book, entry.relative)
            if not part.ops:
                # Nothing was sent: the next look routes it, and this makes sure there is one.
                self._queues.postpone(book, entry, now + RACY_S)
                return
        if settle(part, results, now, took):
            self._queues.route(book, entry)
            return
        book.reload = book.reload or (entry.lost and book.loading)
        error = next(result.error for result in results if result.error is not None)
        book.make_room(entry)
        if error == StorageFull.code and not self._full:
            self._full = True
            self._log.warning("the server's disk is full; trying again until there is room")
        lasting = error not in PASSING and not any(result.retryable for result in results)
        enough = entry.tries >= _TRIES or error in FINAL
        if lasting and enough and book.finishing is not None:
            entry.given_up = True
            entry.lost = False
            self._log.error("not delivered: %s", entry.problem)
        elif entry.tries > 1:
            wait = self._backoff.wait(entry.tries - 1, random=self._random)
            self._queues.postpone(book, entry, now + wait)
        else:
            self._queues.route(book, entry)

    def _unreadable(self, part: Prepared, now: float) -> None:
        entry, book = part.entry, part.book
        if entry.problem is None:
            self._log.warning("cannot be read: %s", part.problem)
        entry.problem = part.problem
        entry.tries += 1
        if book.finishing is not None and entry.tries > 2:
            entry.given_up = True
            return
        wait = self._backoff.wait(entry.tries, random=self._random)
        self._queues.postpone(book, entry, now + wait)

    # -- hashing ---------------------------------------------------------------------------------

    def _start_hashing(self, parts: Sequence[Prepared]) -> None:
        """Have large files hashed beside their sending; their seal follows."""
        for part in parts:
            with self._bells:
                part.entry.hashing = True
                part.book.busy += 1
                part.book.hashing += 1
            self._hash_it(self._hash_job(part.book, part.entry))

    def _hash_job(self, book: Book, entry: Entry) -> Callable[[Callable[[], bool]], None]:
        def job(stop: Callable[[], bool]) -> None:
            found = digest(entry.local, stop)
            with self._bells:
                entry.hashing = False
                book.busy -= 1
                book.hashing -= 1
                entry.digest = found
                if found is None or found[0] != entry.stamp:
                    self._look_again(book, entry.relative)
                if found is None:
                    self._queues.postpone(book, entry, self._now() + RACY_S)
                elif not entry.in_flight:
                    self._queues.route(book, entry)
                book.tell()
                self._bells.send(live=not book.attended)

        return job

    # -- success and failure ---------------------------------------------------------------------

    def _lose(self, items: Sequence[Item]) -> None:
        """What became of these is not known: ask before anything more of them is sent."""
        for book, entry in items:
            self._queues.landed(book, entry)
            entry.lost = True
            entry.sealed = None
            book.reload = book.reload or book.loading
            self._queues.route(book, entry)

    def _went_well(self, books: Iterable[Book]) -> None:
        if self._failures:
            self._log.info("the server answers again")
            self._bells.send()
        self._failures = 0
        self._not_before = float("-inf")
        self.trouble = None
        for book in books:
            book.error, book.refusals = None, 0

    def _failed(self, error: Exception, books: Sequence[Book]) -> None:
        self._failures += 1
        text = str(error) or type(error).__name__
        known = isinstance(error, PhysicsRunnerError)
        final = known and not getattr(error, "retryable", False)
        if isinstance(error, TooLarge):
            self._small_bytes = max(SMALL, self._small_bytes // 2)
            self._bulk_most = max(SMALL, self._bulk_bytes // 2)
            self._bulk_bytes = self._bulk_most
        if not known:
            self._log.error("sending failed", exc_info=error)
        elif text != self.trouble:
            self._log.warning("not sent: %s", text)
        self.trouble = text
        wait = self._backoff.wait(
            self._failures, random=self._random, retry_after=getattr(error, "retry_after", None)
        )
        until = self._now() + wait
        if final:
            # An answer about these attempts; others may go on.
            for book in books:
                book.error = text
                book.refusals += 1
                book.not_before = until
        else:
            self._not_before = until
        for book in books:
            book.tell()
        self._bells.send()

    def _measured(self, count: int, took: float) -> None:
        if count >= SMALL and took > 0:
            wanted = int(count / took * _BULK_S)
            self._bulk_bytes = min(self._bulk_most, max(_BULK_MIN, wanted))
