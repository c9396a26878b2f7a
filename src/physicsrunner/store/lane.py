"""
Group commit: whoever writes at the same time shares a transaction, and its one flush.

Promises:

- A call returns when its work is stored, or raises what went wrong with it; durability is not less
  than with a transaction of its own.
- Works are carried out one after the other. One that fails is undone alone (a savepoint); the
  others stand. Where the database itself fails (gone, full, no commit), all of them fail.
- What works wrote is told to the listeners after it is stored, in the order of the ids, before any
  of the calls returns.

There is no thread of its own: the first caller that comes leads, those who come while it commits
are the next group, and who leads that waits a moment until it is no smaller than the last one, but
no longer than half of what that took. A listener or a work must never write itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from physicsrunner.store.database import Database
from physicsrunner.store.rows import Actor
from physicsrunner.store.sight import Needs
from physicsrunner.store.sql_transaction import Transaction
from physicsrunner.store.works import Job, Work, carry_out
from physicsrunner.wire.live import Event

T = TypeVar("T")
MOST: Final = 64  # works in one transaction: nobody waits long for the others' work
_MOMENT_S: Final = 0.002


class Lane:
    """The one way by which this process writes to a database."""

    def __init__(self, database: Database, tell: Callable[[Sequence[Event]], None]) -> None:
        self._db = database
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[Job[Any]] = deque()
        self._leader: int | None = None  # a thread
        self._enough = threading.Condition(self._lock)
        self._wanted = 0  # works that a leader waits for; 0: nobody does
        self._last = (1, 0.0)  # works of the last group, and the seconds that they took

    def do(self, work: Callable[[Transaction], T], by: Actor | None = None) -> T:
        """Carry out *work*, asked for by *by*, in a transaction; return its answer."""
        return self._done(Job(lambda transaction, _: work(transaction), None, by))

    def decide(self, needs: Needs, work: Work[T], by: Actor | None = None) -> T:
        """Do the same with a work that reads *needs* and writes nothing itself."""
        return self._done(Job(work, needs, by))

    def _done(self, job: Job[T]) -> T:
        with self._lock:
            if self._leader == threading.get_ident():
                raise RuntimeError("who writes, or hears of what was written, must not write")
            self._waiting.append(job)
            if self._leader is None:
                job.leads, self._leader = True, threading.get_ident()
            elif 0 < self._wanted <= len(self._waiting):
                self._enough.notify()
        if not job.leads:
            job.turn.acquire()
        if job.leads:
            self._lead()
        if job.error is not None:
            raise job.error
        return job.answers[0]

    def _lead(self) -> None:
        """Carry out all that waits now, then give the lead to the first who came meanwhile."""
        with self._lock:
            self._leader = threading.get_ident()
            self._gather()
            group = self._group()
        start = time.perf_counter()
        try:
            told = carry_out(self._db, group)
            if told:
                self._tell(told)
        finally:
            self._last = len(group), time.perf_counter() - start
            with self._lock:
                next_one = self._waiting[0] if self._waiting else None
                self._leader = None if next_one is None else 0  # nobody yet, but no longer us
            if next_one is not None:
                next_one.leads = True
                next_one.turn.release()
            for job in group[1:]:
                job.turn.release()

    def _gather(self) -> None:
        """
        Wait for a moment for as many as came last: those are on their way back with the next.

        Whoever came first would else be carried out alone, and all others wait for that.
        """
        number, took_s = self._last
        if len(self._waiting) < number:
            self._wanted = number
            self._enough.wait(min(_MOMENT_S, took_s / 2))
            self._wanted = 0

    def _group(self) -> list[Job[Any]]:
        """Take those that are next and of one kind."""
        group = [self._waiting.popleft()]
        decides = group[0].needs is not None
        while self._waiting and len(group) < MOST:
            if (self._waiting[0].needs is not None) is not decides:
                break
            group.append(self._waiting.popleft())
        return group
