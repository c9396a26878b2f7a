"""
Carrying out works in one transaction: what `store.lane` promises is kept here.

There are two kinds. Those that write by themselves are carried out one after the other, each in a
savepoint of its own. Those that only decide (`store.sight`) share more: what they read is asked for
once, and what they leave to be written is written once for all of them, so that a work costs the
less the more there are. Should the database refuse what they wrote together, it is written again
work by work: only the one that is to blame fails.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable, StorageFull
from physicsrunner.store.database import Database
from physicsrunner.store.hot import raw, together
from physicsrunner.store.rows import Actor
from physicsrunner.store.sight import Needs, Sight
from physicsrunner.store.sql_counts import Moves, write_moves
from physicsrunner.store.sql_rows import write_changed
from physicsrunner.store.sql_transaction import LAST_EVENT, EventIds, Transaction, write_said
from physicsrunner.wire.live import Event

T = TypeVar("T")
#: One that only decides asks the `Sight` for what it needs, and writes nothing itself.
Work = Callable[[Transaction, Sight], T]


class Job(Generic[T]):
    """One caller's work, and how it ended."""

    def __init__(
        self,
        work: Work[T],
        needs: Needs | None,
        by: Actor | None,
    ) -> None:
        self.work = work
        self.needs = needs  # None: it reads and writes by itself
        self.by = by
        self.answers: list[T] = []  # one, when it is done
        self.error: BaseException | None = None
        self.leads = False
        self.turn = threading.Lock()  # held until it is done, or leads
        self.turn.acquire()


def carry_out(database: Database, jobs: Sequence[Job[Any]]) -> list[Event]:
    """
    Carry out *jobs*, all of one kind, and store them; return the events that they wrote, by id.

    Each has an answer or an error then.
    """
    way = _apart if jobs[0].needs is None else _together
    try:
        told = way(database, jobs)
    except BaseException as error:
        for job in jobs:
            # Not one object in several threads: each adds its own trace to it.
            job.error = job.error or (error if job is jobs[0] else copy.copy(error))
        return []
    return told


def _apart(database: Database, jobs: Sequence[Job[Any]]) -> list[Event]:
    """Carry out works that write by themselves."""
    stood: list[Transaction] = []
    with database.write(LAST_EVENT) as connection:
        moves: Moves = Counter()
        ids = EventIds(connection, database)
        for job in jobs:
            transaction = Transaction(connection, ids, job.by, moves)
            if len(jobs) == 1:
                _written(job, transaction)
            elif not _in_savepoint(database, connection, job, transaction):
                continue
            stood.append(transaction)
            for key, more in transaction.moves.items():
                moves[key] += more
        with together(connection):
            _end(database, connection, moves, ids)
    return _told(stood)


def _written(job: Job[Any], transaction: Transaction) -> None:
    job.answers.append(job.work(transaction, Sight([])))


def _in_savepoint(
    database: Database, connection: Connection, job: Job[Any], transaction: Transaction
) -> bool:
    """Carry out one of several works so that it can be undone alone; say whether it stands."""

    def work() -> None:
        raw(connection).execute("SAVEPOINT work")
        _written(job, transaction)

    return _stands(database, connection, job, work)


def _stands(
    database: Database, connection: Connection, job: Job[Any], work: Callable[[], None]
) -> bool:
    """Do *work*, which begins with a savepoint; say whether it stands. If not, it is undone."""
    try:
        with database.translated():
            work()
            raw(connection).execute("RELEASE SAVEPOINT work")
    except BaseException as error:
        if not database.back_to(connection, "work"):
            raise error from None
        job.answers.clear()
        job.error = error
        return False
    return True


def _together(database: Database, jobs: Sequence[Job[Any]]) -> list[Event]:
    """Carry out works that only decide."""
    sight = Sight([job.needs for job in jobs if job.needs is not None])
    begun = False
    try:
        with database.write(LAST_EVENT, sight.ask) as connection:
            begun = True
            ids = EventIds(connection, database)
            stood = [
                (job, transaction)
                for job in jobs
                if (transaction := _decided(database, connection, ids, job, sight)) is not None
            ]
            again = _stored(database, connection, ids, sight, stood)
    except (ServerUnavailable, StorageFull):
        raise
    except PhysicsRunnerError:
        if begun or len(jobs) == 1:
            raise
        # One of them asks what cannot be asked; nobody has decided anything yet.
        return [event for job in jobs for event in carry_out(database, [job])]
    told = _told([transaction for _, transaction in stood])
    return told + (carry_out(database, again) if again else [])


def _decided(
    database: Database, connection: Connection, ids: EventIds, job: Job[Any], sight: Sight
) -> Transaction | None:
    """Have a work decide; None: it failed. The others stand while the transaction does."""
    transaction = Transaction(connection, ids, job.by, sight.moves)
    try:
        with database.translated():
            answer = job.work(transaction, sight)
    except BaseException as error:
        if not database.goes_on(connection):
            raise
        job.error = error
        return None
    job.answers.append(answer)
    sight.keep(transaction)
    return transaction


_Stood = Sequence["tuple[Job[Any], Transaction]"]


def _stored(
    database: Database, connection: Connection, ids: EventIds, sight: Sight, stood: _Stood
) -> list[Job[Any]]:
    """Write all that was decided, and commit; return those that must be asked again."""
    driver = raw(connection)
    try:
        with together(connection):
            if len(stood) > 1:
                driver.execute("SAVEPOINT decided")
            for _, transaction in stood:
                transaction.say(transaction.changed.events)
            write_changed(connection, sight.changed)
            told = [event for _, transaction in stood for event in transaction.told]
            write_said(connection, told, copied=False)
            _end(database, connection, sight.moves, ids)
    except Exception as error:
        if len(stood) < 2:
            raise
        if not database.back_to(connection, "decided"):
            raise error from None
    else:
        return []
    return _one_by_one(database, connection, ids, stood)


def _one_by_one(
    database: Database, connection: Connection, ids: EventIds, stood: _Stood
) -> list[Job[Any]]:
    """Write work by work what could not be written together; return those to be asked again."""
    ids.taken = 0
    undone: set[str] = set()  # runs that are not what later works were shown
    moves: Moves = Counter()
    again: list[Job[Any]] = []
    for job, transaction in stood:
        transaction.told.clear()
        if undone and job.needs is not None and job.needs.offer is not None:
            # What it may hand out hangs on all others; who only hands out can be asked twice.
            job.answers.clear()
            again.append(job)
            undone.update(transaction.changed.runs)
        elif _alone(database, connection, job, transaction, undone):
            for key, more in transaction.moves.items():
                moves[key] += more
        else:
            undone.update(transaction.changed.runs)
    with together(connection):
        _end(database, connection, moves, ids)
    return again


def _alone(
    database: Database,
    connection: Connection,
    job: Job[Any],
    transaction: Transaction,
    undone: Collection[str],
) -> bool:
    """Write what one work has decided; say whether it stands."""
    # What it has not changed it may have left alone, or shown, as it was not to be.
    seen = () if job.needs is None else job.needs.runs
    if any(run in undone for run in chain(seen, transaction.changed.runs)):
        job.answers.clear()
        job.error = ServerUnavailable("a change of the same moment failed: ask once more")
        return False

    def work() -> None:
        raw(connection).execute("SAVEPOINT work")
        transaction.say(transaction.changed.events)
        write_changed(connection, transaction.changed)
        write_said(connection, transaction.told, copied=False)

    taken = transaction.ids.taken
    if _stands(database, connection, job, work):
        return True
    transaction.ids.taken = taken
    transaction.told.clear()
    return False


def _end(database: Database, connection: Connection, moves: Moves, ids: EventIds) -> None:
    write_moves(connection, moves)
    ids.keep()
    database.commit(connection)


def _told(stood: Sequence[Transaction]) -> list[Event]:
    told = [event for transaction in stood for event in transaction.told]
    told.sort(key=lambda item: item.id or 0)
    return told
