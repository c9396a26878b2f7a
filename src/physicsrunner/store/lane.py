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
from physicsrunner.store.hot import COPIED, raw, together
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_counts import Moves, write_moves
from physicsrunner.store.sql_rows import write_changed
from physicsrunner.store.sql_transaction import LAST_EVENT, EventIds, Transaction
from physicsrunner.wire.live import Event

T = TypeVar("T")
MOST: Final = 64  # works in one transaction: nobody waits long for the others' work


class _Job(Generic[T]):
    """One caller's work, and how it ended."""

    def __init__(self, work: Callable[[Transaction], T], by: Actor | None, reads: bool) -> None:
        self.work = work
        self.by = by
        self.reads = reads
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

    def do(
        self, work: Callable[[Transaction], T], by: Actor | None = None, *, reads: bool = False
    ) -> T:
        """
        Carry out *work*, asked for by *by*, in a transaction; return its answer.

        *reads*: it writes nothing but what it leaves to `write_changed`.
        """
        job = _Job(work, by, reads)
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
        stood: list[Transaction] = []
        try:
            with self._db.write(LAST_EVENT) as connection:
                moves: Moves = Counter()
                ids = EventIds(connection, self._db)
                for job in group:
                    transaction = Transaction(connection, ids, job.by, moves)
                    if len(group) == 1:
                        job.answers.append(job.work(transaction))
                        _write_many(transaction)
                    elif not self._apart(connection, job, transaction):
                        continue
                    stood.append(transaction)
                    for key, more in transaction.moves.items():
                        moves[key] += more
                with together(connection):
                    if len(group) == 1:
                        _write(stood[0])
                    write_moves(connection, moves)
                    ids.keep()
                    self._db.commit(connection)
        except BaseException as error:
            for job in group:
                # Not one object in several threads: each adds its own trace to it.
                job.error = job.error or (error if job is group[0] else copy.copy(error))
            return
        told = [event for transaction in stood for event in transaction.told]
        if told:
            told.sort(key=lambda item: item.id or 0)
            self._tell(told)

    def _apart(self, connection: Connection, job: _Job[Any], transaction: Transaction) -> bool:
        """Carry out one of several works so that it can be undone alone; say whether it stands."""
        driver = raw(connection)
        try:
            with self._db.translated():
                _answer_apart(job, transaction)
        except BaseException as error:
            try:
                if job.answers or not job.reads:
                    driver.execute("ROLLBACK TO SAVEPOINT work")
                    job.answers.clear()
                else:
                    driver.execute("SAVEPOINT work")  # nothing was written; is it still good?
                    driver.execute("RELEASE SAVEPOINT work")
            except self._db.driver_error:
                raise error from None  # the database gave up the whole transaction
            job.error = error
            return False
        return True


def _answer_apart(job: _Job[Any], transaction: Transaction) -> None:
    """Carry out one work with all that it has to write so that it can be undone alone."""
    driver = raw(transaction.connection)
    if not job.reads:
        driver.execute("SAVEPOINT work")
    job.answers.append(job.work(transaction))
    with together(transaction.connection):
        if job.reads:
            driver.execute("SAVEPOINT work")
        _write(transaction)
    _write_many(transaction)
    driver.execute("RELEASE SAVEPOINT work")


def _write(transaction: Transaction) -> None:
    """Write what a work has left to be written, among statements that are sent together."""
    write_changed(transaction)
    if len(transaction.changed.events) < COPIED:
        transaction.write_events(transaction.changed.events)


def _write_many(transaction: Transaction) -> None:
    """Write those events of a work that are too many to be sent so: by COPY, on PostgreSQL."""
    if len(transaction.changed.events) >= COPIED:
        transaction.write_events(transaction.changed.events)
