"""
The sync: what main.py writes reaches the server byte for byte.

Promises:

- One `Sync` serves many attempts. `touch` is quick and may be called from any thread; a line that
  was written is on its way at once when the line is idle.
- Nothing is believed delivered until the server has sealed it with the SHA-256 of what is on the
  disk. After a start and after every unknown outcome the server is asked what it has.
- Failures are tried again with growing waits and jitter; `Retry-After` is honoured.
- Memory stays bounded: a frame of small files holds at most 8 MiB, large files are read while
  they are sent.
- Two senders: logs and small files never wait behind a large one.
- Whoever waits for the end of an attempt sends what is ready meanwhile, of all attempts, one at a
  time: the files of those that end together go in one frame, and nobody is woken for it.

It never decides what is to be sent (`core.sync` does) and never changes the work folder.
"""

from __future__ import annotations

import logging
import random as random_module
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.retry import Backoff
from physicsrunner.runner.result import Delivery, LastWords
from physicsrunner.runner.sync_bells import Bells
from physicsrunner.runner.sync_book import SMALL, Book
from physicsrunner.runner.sync_disk import Disk, Found, Seen
from physicsrunner.runner.sync_look import Looker
from physicsrunner.runner.sync_queue import Queues
from physicsrunner.runner.sync_send import BULK, LIVE, RACY_S, Sender
from physicsrunner.runner.workdir import WorkFolder

_PENDING_NAMED: Final = 1000
_IDLE_S: Final = 60.0
_LEADS_S: Final = 60.0  #: until its deadline: a request may take that long
_FEW_FILES: Final = 100  #: of an attempt, that its report may wait for
_TICK_S: Final = 0.001
_AFTER_HASH_S: Final = 30.0  #: for the seal, when hashing alone took the time


@dataclass(frozen=True)
class Followed:
    """One attempt whose files are sent."""

    run: str
    attempt: int
    folder: WorkFolder
    fresh: bool = False  #: nothing of it was ever sent: the server need not be asked what it has


@dataclass(frozen=True)
class SyncStatus:
    """How far the files of one attempt are."""

    files: int  #: seen on the disk
    pending: int  #: of these, not in step with the server
    bytes_sent: int
    bytes_left: int  #: about
    error: str | None = None  #: why nothing goes on


class Sync:
    """
    Sends the files of attempts to one server.

    Parameters
    ----------
    uplink
        The server. Its `operations` say what it can do.
    now
        The wall clock, POSIX seconds (time stamps of files are compared with it).
    random
        Floats in [0, 1), for jitter.
    wait
        How `finish` waits when the threads were not started (tests); None: on a condition.
    backoff
        Waits after failures.
    """

    def __init__(
        self,
        uplink: Uplink,
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
        wait: Callable[[float], object] | None = None,
        log: logging.Logger | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._now = now
        self._wait = wait
        self._log = log or logging.getLogger(__name__)
        self._queues = Queues()
        self._bells = Bells(self._queues)
        self._books: dict[tuple[str, int], Book] = {}
        self._led = False  # by one of those that wait for the end of an attempt
        self._waiting: dict[tuple[str, int], Book] = {}  # who could lead next
        self._looker = Looker(self._queues, self._bells, now)
        self._hashers: ThreadPoolExecutor | None = None
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._sender = Sender(
            uplink,
            self._queues,
            self._books,
            self._bells,
            now=now,
            random=random,
            backoff=backoff or Backoff(base=0.25, cap=10.0),
            log=self._log,
            look_again=self._looker.again,
            hash_it=self._submit,
        )

    # -- what others call ------------------------------------------------------------------------

    def add(self, followed: Followed, *, look: bool = True) -> None:
        """
        Follow one attempt from now on; what is on the disk already goes first.

        Without *look* nothing is looked at before it is touched, or before `finish`.
        """
        book = Book(followed.run, followed.attempt, Disk(followed.folder), unsent=followed.fresh)
        book.news = self._bells.condition()
        with self._bells:
            if book.key in self._books:
                return
            self._books[book.key] = book
            self._looker.add(book, look=look)
            if look:
                self._bells.send()

    def remove(self, run: str, attempt: int) -> None:
        """Follow this attempt no more; what is not sent stays in its work folder."""
        with self._bells:
            book = self._books.pop((run, attempt), None)
            if book is not None:
                book.forgotten = True
                self._looker.remove(book)
                self._queues.drop(book)
                book.tell()

    def ask_again(self, run: str, attempt: int) -> None:
        """Believe nothing of what the server has of this attempt before its list was asked for."""
        with self._bells:
            book = self._books[run, attempt]
            book.unsent = book.loaded = False
            book.reload = book.reload or book.loading
            for entry in book.entries.values():
                entry.lost, entry.sealed = True, None
            self._bells.send()

    def touch(self, paths: Collection[Path]) -> None:
        """Hint that something at *paths* changed. A followed folder, or one above: all of it."""
        self._looker.touch(paths)

    def start(self) -> None:
        """Start sending, in threads of its own."""
        self._hashers = ThreadPoolExecutor(2, thread_name_prefix="sync-hash")
        loops: dict[str, Callable[[], None]] = {
            "look": self._look_loop,
            "live": lambda: self._sender.loop(LIVE, self._closing),
            "bulk": lambda: self._sender.loop(BULK, self._closing),
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=f"sync-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop sending. A frame that is on its way is waited for, no other one follows."""
        self._closing.set()
        with self._bells:
            self._bells.all()
            for book in self._books.values():
                book.tell()
            while self._led:
                self._bells.look.wait()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._hashers is not None:
            self._hashers.shutdown(wait=True, cancel_futures=True)

    def status(self, run: str, attempt: int) -> SyncStatus:
        """Say how far the files of an attempt are."""
        with self._bells:
            book = self._books[run, attempt]
            open_ = [entry for entry in book.entries.values() if not book.in_step(entry)]
            left = sum(entry.pending for entry in open_)
            return SyncStatus(len(book.entries), len(open_), book.bytes_sent, left, book.error)

    def finish(
        self,
        run: str,
        attempt: int,
        *,
        timeout: float | None = None,
        words: LastWords | None = None,
    ) -> Delivery:
        """
        Send and seal everything; return when all of it is sealed, or when that cannot be.

        Call it when main.py has ended. May be called again after a delivery that was not whole.

        Parameters
        ----------
        timeout
            Seconds. None: as long as it takes, unless the server's answer is final. What then
            still changes, although main.py has ended, is left as it was last sealed.
        words
            To be reported when all is sealed. They go with the last files, if all of them are
            small and the server hears them; `answers` says so.

        Returns
        -------
        Delivery
            `delivered` is False when something is not sealed: `pending` and `error` say what.
        """
        book = self._books[run, attempt]
        book.deadline = None if timeout is None else self._now() + timeout
        book.finishing, book.attended = None, True
        book.words, book.said = words, ()
        try:
            self._finish(book)
        finally:
            with self._bells:
                book.attended = False
                book.words, book.said = None, ()
                self._hand_over()
        with self._bells:
            return self._delivery(book)

    # -- finishing -------------------------------------------------------------------------------

    def _finish(self, book: Book) -> None:
        while True:
            book.restless.clear()
            first = book.finishing is None
            changed = self._looker.scan(book, finish=first, on_seen=partial(self._seen, book))
            with self._bells:
                if not changed and book.settled():
                    book.restless.clear()
                    return
            if not self._until_settled(book):
                return
            if book.deadline is not None and self._now() >= book.deadline:
                return

    def _seen(self, book: Book, seen: Sequence[Seen]) -> None:
        """Prepare for sending what was *seen*."""
        found = [item.stamp for item in seen if isinstance(item, Found)]
        if self._threads and found:
            # What was written just now cannot be sealed yet: all of it in one frame, then.
            age = self._now() - max(stamp.ctime_ns for stamp in found) / 1e9
            if -1.0 < age < RACY_S:
                self._closing.wait(min(RACY_S, RACY_S - age) + _TICK_S)
        few = len(found) <= _FEW_FILES and sum(stamp.size for stamp in found) <= SMALL
        if book.words is not None and few and not (book.said or book.words.answers):
            book.said = book.words.say()  # they go along where nothing of it takes long

    def _until_settled(self, book: Book) -> bool:
        """Wait until *book* is settled; False when that is given up."""
        while True:
            if not self._threads:
                self.step(book.deadline)
            with self._bells:
                if book.settled():
                    return True
                now = self._now()
                if book.refusals > 2 or self._closing.is_set():
                    return False
                if book.deadline is not None and book.hashing and self._sender.trouble is None:
                    book.deadline = max(book.deadline, now + _AFTER_HASH_S)
                if book.deadline is not None and now >= book.deadline:
                    book.error = book.error or self._sender.trouble or "not finished in time"
                    return False
                left = 1.0 if book.deadline is None else min(1.0, book.deadline - now)
                leads = self._threads and self._may_lead(book, now)
                if self._threads and not leads:
                    self._await(book, left)
                    continue
                self._led = bool(leads)
            if leads:
                self._lead(book)
            elif self._wait is not None:
                self._wait(min(left, 0.05))

    def _may_lead(self, book: Book, now: float) -> bool:
        in_time = book.deadline is None or book.deadline - now > _LEADS_S
        return in_time and not self._led and self._sender.wait_s(LIVE) <= 0

    def _lead(self, book: Book) -> None:
        """Send what is ready, of all attempts, until *book* is settled."""
        more, ended = True, False
        try:
            while more and not ended:
                more = self._sender.once(LIVE)
                with self._bells:
                    ended = book.settled() or self._closing.is_set()
        finally:
            with self._bells:
                self._led = False
                if self._closing.is_set():
                    self._bells.all()
                elif more:
                    self._hand_over()
                else:
                    self._bells.send()  # what comes later is the thread's

    def _await(self, book: Book, seconds: float) -> None:
        """Wait for news of *book*, or for the turn to lead."""
        if not self._led:
            self._bells.send()
        self._waiting[book.key] = book
        try:
            if book.news is not None:
                book.news.wait(seconds)
        finally:
            self._waiting.pop(book.key, None)

    def _hand_over(self) -> None:
        """See to it that somebody sends what waits."""
        if self._led or not self._queues.any(LIVE):
            return
        for book in self._waiting.values():
            book.tell()
            return
        self._bells.send()

    def _delivery(self, book: Book) -> Delivery:
        sealed = [entry for entry in book.entries.values() if book.in_step(entry)]
        open_entries = [entry for entry in book.entries.values() if not book.in_step(entry)]
        lost = [item for item in book.skipped.values() if item.lost]
        pending = sorted(entry.relative for entry in open_entries)
        pending += sorted(item.relative for item in lost)
        problems = [entry.problem for entry in open_entries if entry.problem]
        problems += [f"{item.relative}: {item.reason}" for item in lost]
        delivered = book.loaded and not pending
        error = None if delivered else book.error or "; ".join(problems[:3]) or "not sent yet"
        return Delivery(
            delivered=delivered,
            files=len(sealed),
            bytes=sum(entry.stamp.size for entry in sealed if entry.stamp is not None),
            pending=tuple(pending[:_PENDING_NAMED]),
            skipped=tuple(
                (item.relative, item.reason)
                for item in (*book.skipped.values(), *book.restless.values())
                if not item.lost
            ),
            error=error,
        )

    # -- hashing ---------------------------------------------------------------------------------

    def _submit(self, job: Callable[[Callable[[], bool]], None]) -> None:
        if self._hashers is None:
            job(self._closing.is_set)
        elif not self._closing.is_set():
            self._hashers.submit(job, self._closing.is_set)

    # -- loops -----------------------------------------------------------------------------------

    def step(self, until: float | None = None) -> bool:
        """Do all that can be done now (and before *until*), in this thread (without `start`)."""
        done = self._looker.look()
        while until is None or self._now() < until:
            if not (self._sender.once(BULK) or self._sender.once(LIVE) or self._looker.look()):
                break
            done = True
        return done

    def _look_loop(self) -> None:
        while not self._closing.is_set():
            with self._bells:
                if self._looker.idle:
                    self._bells.look.wait(_IDLE_S)
                    continue
            try:
                self._looker.look()
            except Exception:
                self._log.exception("looking at the disk failed; the next scan repeats it")
