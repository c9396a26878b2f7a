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
are the next group. A listener or a work must never write itself.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection

from physicsrunner.store.database import Database
from physicsrunner.store.hot import raw
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_counts import Moves, write_moves
from physicsrunner.store.sql_rows import write_changed
from physicsrunner.store.sql_transaction import Transaction
from physicsrunner.wire.live import Event

T = TypeVar("T")
MOST: Final = 64  # works in one transaction: nobody waits long for the others' work


class _Job(Generic[T]):
    """One caller's work, and how it ended."""

    def __init__(self, work: Callable[[Transaction], T], by: Actor | None) -> None:
        self.work = work
        self.by = by
        self.answers: list[T] = []  # one, when it is done
        self.error: BaseException | None = None
        self.leads = False
        self.turn = threading.Lock()  # held until it is done, or leads
        self.turn.acquire()


class Lane:
    """The one way by which this process writes to a database."""

    def __init__(self, database: Database, tell: Callable[[Sequence[Event]], None]) -> None:
        self._db = database
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[_Job[Any]] = deque()
        self._leader: int | None = None  # a thread

    def do(self, work: Callable[[Transaction], T], by: Actor | None = None) -> T:
        """Carry out *work*, asked for by *by*, in a transaction; return its answer."""
        job = _Job(work, by)
        with self._lock:
            if self._leader == threading.get_ident():
                raise RuntimeError("who writes, or hears of what was written, must not write")
            self._waiting.append(job)
            if self._leader is None:
                job.leads, self._leader = True, threading.get_ident()
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
            group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        try:
            self._carry_out(group)
        finally:
            with self._lock:
                next_one = self._waiting[0] if self._waiting else None
                self._leader = None if next_one is None else 0  # nobody yet, but no longer us
            if next_one is not None:
                next_one.leads = True
                next_one.turn.release()
            for job in group[1:]:
                job.turn.release()

    def _carry_out(self, group: Sequence[_Job[Any]]) -> None:
        told: list[Event] = []
        try:
            with self._db.write() as connection:
                moves: Moves = Counter()
                for job in group:
                    transaction = Transaction(connection, job.by, moves)
                    if len(group) == 1:
                        _answer(job, transaction)
                    elif not self._apart(connection, job, transaction):
                        continue
                    for key, more in transaction.moves.items():
                        moves[key] += more
                    told += transaction.told
                write_moves(connection, moves)
        except BaseException as error:
            for job in group:
                # Not one object in several threads: each adds its own trace to it.
                job.error = job.error or (error if job is group[0] else copy.copy(error))
            return
        if told:
            told.sort(key=lambda item: item.id or 0)
            self._tell(told)

    def _apart(self, connection: Connection, job: _Job[Any], transaction: Transaction) -> bool:
        """Carry out one of several works so that it can be undone alone; say whether it stands."""
        driver = raw(connection)
        driver.execute("SAVEPOINT work")
        try:
            with self._db.translated():
                _answer(job, transaction)
        except BaseException as error:
            try:
                driver.execute("ROLLBACK TO SAVEPOINT work")
            except self._db.driver_error:
                raise error from None  # the database gave up the whole transaction
            job.error = error
            return False
        driver.execute("RELEASE SAVEPOINT work")
        return True


def _answer(job: _Job[Any], transaction: Transaction) -> None:
    """Carry out one work with all that it has to write."""
    answer = job.work(transaction)
    write_changed(transaction)
    job.answers.append(answer)
