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

It never decides what is to be sent (`core.sync` does) and never changes the work folder.
"""

from __future__ import annotations

import logging
import random as random_module
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.retry import Backoff
from physicsrunner.runner.result import Delivery
from physicsrunner.runner.sync_book import Book
from physicsrunner.runner.sync_disk import Disk
from physicsrunner.runner.sync_look import Looker
from physicsrunner.runner.sync_queue import Queues
from physicsrunner.runner.sync_send import BULK, LIVE, RACY_S, Sender
from physicsrunner.runner.workdir import WorkFolder

_PENDING_NAMED: Final = 1000
_IDLE_S: Final = 60.0
_FEW: Final = 3  #: attempts
_FIRST_S: Final = 0.1  #: until the first bytes of an attempt are sent
_FIRST_OF_MANY_S: Final = 0.3
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
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for the threads here
        self._queues = Queues()
        self._books: dict[tuple[str, int], Book] = {}
        self._looker = Looker(self._queues, self._changed, now)
        self._hashers: ThreadPoolExecutor | None = None
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._sender = Sender(
            uplink,
            self._queues,
            self._books,
            self._changed,
            now=now,
            random=random,
            backoff=backoff or Backoff(base=0.25, cap=10.0),
            log=self._log,
            look_again=self._looker.again,
            hash_it=self._submit,
        )

    # -- what others call ------------------------------------------------------------------------

    def add(self, followed: Followed) -> None:
        """Follow one attempt from now on; what is on the disk already goes first."""
        book = Book(followed.run, followed.attempt, Disk(followed.folder), unsent=followed.fresh)
        book.news = threading.Condition(self._lock)
        if followed.fresh:
            # Most of what ends soon then goes whole, in one frame.
            few = len(self._books) < _FEW
            book.not_before = self._now() + (_FIRST_S if few else _FIRST_OF_MANY_S)
        with self._changed:
            if book.key in self._books:
                return
            self._books[book.key] = book
            self._looker.add(book)
            self._changed.notify_all()

    def remove(self, run: str, attempt: int) -> None:
        """Follow this attempt no more; what is not sent stays in its work folder."""
        with self._changed:
            book = self._books.pop((run, attempt), None)
            if book is not None:
                book.forgotten = True
                self._looker.remove(book)
                self._queues.drop(book)
                book.tell()
            self._changed.notify_all()

    def ask_again(self, run: str, attempt: int) -> None:
        """Believe nothing of what the server has of this attempt before its list was asked for."""
        with self._changed:
            book = self._books[run, attempt]
            book.unsent = book.loaded = False
            book.reload = book.reload or book.loading
            for entry in book.entries.values():
                entry.lost, entry.sealed = True, None
            self._changed.notify_all()

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
        with self._changed:
            self._changed.notify_all()
            for book in self._books.values():
                book.tell()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._hashers is not None:
            self._hashers.shutdown(wait=True, cancel_futures=True)

    def status(self, run: str, attempt: int) -> SyncStatus:
        """Say how far the files of an attempt are."""
        with self._changed:
            book = self._books[run, attempt]
            open_ = [entry for entry in book.entries.values() if not book.in_step(entry)]
            left = sum(entry.pending for entry in open_)
            return SyncStatus(len(book.entries), len(open_), book.bytes_sent, left, book.error)

    def finish(self, run: str, attempt: int, *, timeout: float | None = None) -> Delivery:
        """
        Send and seal everything; return when all of it is sealed, or when that cannot be.

        Call it when main.py has ended. May be called again after a delivery that was not whole.

        Parameters
        ----------
        timeout
            Seconds. None: as long as it takes, unless the server's answer is final. What then
            still changes, although main.py has ended, is left as it was last sealed.

        Returns
        -------
        Delivery
            `delivered` is False when something is not sealed: `pending` and `error` say what.
        """
        book = self._books[run, attempt]
        book.deadline = None if timeout is None else self._now() + timeout
        if self._threads:
            # What was written just now cannot be sealed yet: all of it in one frame, then.
            self._closing.wait(RACY_S)
        book.finishing = None
        while True:
            book.restless.clear()
            changed = self._looker.scan(book, finish=book.finishing is None)
            with self._changed:
                if not changed and book.settled():
                    book.restless.clear()
                    break
            if not self._until_settled(book):
                break
            if book.deadline is not None and self._now() >= book.deadline:
                break
        with self._changed:
            return self._delivery(book)

    # -- finishing -------------------------------------------------------------------------------

    def _until_settled(self, book: Book) -> bool:
        """Wait until *book* is settled; False when that is given up."""
        while True:
            if not self._threads:
                self.step(book.deadline)
            with self._changed:
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
                if self._threads:
                    (book.news or self._changed).wait(left)
                    continue
            if self._wait is not None:
                self._wait(min(left, 0.05))

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
            with self._changed:
                if self._looker.idle:
                    self._changed.wait(_IDLE_S)
                    continue
            try:
                self._looker.look()
            except Exception:
                self._log.exception("looking at the disk failed; the next scan repeats it")
