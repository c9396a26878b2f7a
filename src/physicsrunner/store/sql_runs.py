"""Runs and attempts in SQL. The promises are those of `store.base.RunStore`."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from physicsrunner.core.resources import has_labels
from physicsrunner.core.run import BODY_FIELDS, PRIORITIES, RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import HELD, LEASABLE, RunState
from physicsrunner.errors import NotFound, PhysicsRunnerError
from physicsrunner.store import schema
from physicsrunner.store.base import AttemptRecord, Change, Decide, Offer
from physicsrunner.store.sql_events import SqlEvents, write_events
from physicsrunner.wire.live import Event

COLUMNS: Final = tuple(field.name for field in fields(RunSummary))
_RUNS: Final = schema.runs.c
_FIRST: Final = 8  # candidates looked at in one go: most often the first one fits
_PAGE: Final = 200  # and then
_MOST: Final = 5_000  # candidates looked at in one call, when few of them fit


class SqlRuns(SqlEvents):
    """The table of runs, which is the queue too."""

    def add_run(
        self, run: RunRecord, events: Sequence[Event], attempt: Mapping[str, Any] | None = None
    ) -> tuple[RunRecord, bool]:
        """Keep *run* under the next free number; return it, and whether it is new."""

        def work(connection: Connection, told: list[Event]) -> tuple[RunRecord, bool]:
            present = _record(connection, run.id)
            if present is not None:
                return present, False
            row = {name: _plain(getattr(run, name)) for name in COLUMNS}
            row["number"] = _count_up(connection, "run_number")
            connection.execute(insert(schema.runs), row)
            connection.execute(
                insert(schema.run_bodies),
                {"run_id": run.id, **{name: getattr(run, name) for name in BODY_FIELDS}},
            )
            if run.tags:
                tags = [{"run_id": run.id, "tag": tag} for tag in dict.fromkeys(run.tags)]
                connection.execute(insert(schema.run_tags), tags)
            if attempt is not None:
                _write_attempt(connection, run, attempt)
            numbered = [_numbered(item, row["number"]) for item in events]
            write_events(connection, numbered, told)
            added = _record(connection, run.id)
            if added is None:
                raise NotFound(f"run {run.id} was not kept")
            return added, True

        return self._transact(work)

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run without its heavy parts; None if there is none."""
        with self._db.read() as connection:
            row = connection.execute(select(schema.runs).where(_which(run))).mappings().first()
        return None if row is None else _summary(row)

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run with everything; None if there is none."""
        with self._db.read() as connection:
            return _record(connection, run)

    def runs(self, wanted: RunFilter) -> tuple[list[RunSummary], int]:
        """Return one page of the runs that *wanted* describes, and how many there are in all."""
        conditions = _conditions(wanted)
        key = wanted.sort.removeprefix("-")
        column = _RUNS[key]
        # The number breaks ties, so that pages neither repeat nor leave out a run.
        order = (
            (column.desc(), _RUNS.number.desc())
            if wanted.sort.startswith("-")
            else (column.asc(), _RUNS.number.asc())
        )
        page = (
            select(schema.runs)
            .where(*conditions)
            .order_by(*order)
            .limit(wanted.limit)
            .offset(wanted.offset)
        )
        total = select(func.count()).select_from(schema.runs).where(*conditions)
        with self._db.read() as connection:
            found = [_summary(row) for row in connection.execute(page).mappings()]
            return found, int(connection.execute(total).scalar_one())

    def change(
        self, decisions: Sequence[tuple[str, Decide]]
    ) -> list[RunSummary | PhysicsRunnerError]:
        """Carry out the decisions in order, in one transaction."""

        def work(
            connection: Connection, told: list[Event]
        ) -> list[RunSummary | PhysicsRunnerError]:
            answers: list[RunSummary | PhysicsRunnerError] = []
            for run, decide in decisions:
                try:
                    answers.append(_decided(connection, run, decide, told))
                except PhysicsRunnerError as error:
                    answers.append(error)
            return answers

        return self._transact(work)

    def acquire(self, offer: Offer, decide: Decide) -> list[RunSummary]:
        """Hand out runs that wait and fit: highest priority first, then the oldest."""

        def work(connection: Connection, told: list[Event]) -> list[RunSummary]:
            taken: list[RunSummary] = []
            room = offer.room
            for run in islice(_waiting(connection, offer), _MOST):
                if room.fits(run) and has_labels(run, offer.labels):
                    change = decide(run)
                    if change is not None:
                        taken.append(_apply(connection, run, change, told))
                        room = room.without(run)
                if len(taken) >= offer.limit:
                    break
            return taken

        return self._transact(work)

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""
        query = (
            select(_RUNS.id)
            .where(_RUNS.status.in_([state.value for state in HELD]))
            .where(_RUNS.deadline < now, _RUNS.unreachable.is_(False))
            .limit(limit)
        )
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def unconfirmed(self, agent: str) -> list[RunSummary]:
        """Return the runs leased to *agent* of which it has not been heard since."""
        query = (
            select(schema.runs)
            .where(_RUNS.agent == agent, _RUNS.status == RunState.PREPARING.value)
            .where(_RUNS.confirmed.is_(False), _RUNS.claimed.is_(False))
            .order_by(_RUNS.number)
        )
        with self._db.read() as connection:
            return [_summary(row) for row in connection.execute(query).mappings()]

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        query = select(schema.attempts).where(
            schema.attempts.c.run_id == run, schema.attempts.c.attempt == attempt
        )
        with self._db.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else AttemptRecord(**row)

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        table = schema.attempts
        query = select(table).where(table.c.run_id == run).order_by(table.c.attempt)
        with self._db.read() as connection:
            return [AttemptRecord(**row) for row in connection.execute(query).mappings()]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, RunState) else value


def _numbered(item: Event, number: int) -> Event:
    return Event(**{**vars(item), "data": {**item.data, "number": number}})


def _which(run: str | int) -> ColumnElement[bool]:
    return _RUNS.number == run if isinstance(run, int) else _RUNS.id == run


def _summary(row: Mapping[Any, Any]) -> RunSummary:
    return RunSummary(**{**row, "status": RunState(row["status"])})


def _record(connection: Connection, run: str | int) -> RunRecord | None:
    bodies = [schema.run_bodies.c[name] for name in BODY_FIELDS]
    query = select(*schema.runs.c, *bodies).join(schema.run_bodies).where(_which(run))
    row = connection.execute(query).mappings().first()
    return None if row is None else RunRecord(**{**row, "status": RunState(row["status"])})


def _count_up(connection: Connection, name: str) -> int:
    """Return a counter's next value; its row is locked until the transaction ends."""
    table = schema.counters
    raised = connection.execute(
        update(table).where(table.c.name == name).values(value=table.c.value + 1)
    )
    if raised.rowcount == 0:
        connection.execute(insert(table), {"name": name, "value": 1})
        return 1
    query = select(table.c.value).where(table.c.name == name)
    return int(connection.execute(query).scalar_one())


def _conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        _RUNS[name] == value
        for name in ("project_id", "model_id", "created_by", "agent")
        if (value := getattr(wanted, name)) is not None
    ]
    if len(wanted.status) == 1:  # then the index gives the order too
        conditions.append(_RUNS.status == wanted.status[0].value)
    elif wanted.status:
        conditions.append(_RUNS.status.in_([state.value for state in wanted.status]))
    if wanted.name:
        conditions.append(_RUNS.name.icontains(wanted.name, autoescape=True))
    if wanted.tag is not None:
        tagged = select(schema.run_tags.c.run_id).where(schema.run_tags.c.tag == wanted.tag)
        conditions.append(_RUNS.id.in_(tagged))
    return conditions


def _waiting(connection: Connection, offer: Offer) -> Iterator[RunSummary]:
    """Iterate over runs that wait and fit, in the queue's order."""
    for priority in sorted(PRIORITIES.values(), reverse=True):
        # One walk along the index for each state: a queue of 100,000 runs is never sorted.
        walks = [_walk(connection, offer, state, priority) for state in LEASABLE]
        yield from heapq.merge(*walks, key=lambda run: run.number)


def _walk(
    connection: Connection, offer: Offer, state: RunState, priority: int
) -> Iterator[RunSummary]:
    room, last, page = offer.room, 0, _FIRST
    query = (
        select(schema.runs)
        .where(_RUNS.status == state.value, _RUNS.priority == priority, _RUNS.held.is_(False))
        .where(or_(_RUNS.not_before.is_(None), _RUNS.not_before <= offer.now))
        .where(_RUNS.cpu_cores <= room.cpu_cores, _RUNS.memory_gb <= room.memory_gb)
        .where(_RUNS.gpu_count <= room.gpu_count, _RUNS.storage_gb <= room.storage_gb)
        .order_by(_RUNS.number)
    )
    while True:
        part = query.where(_RUNS.number > last).limit(page)
        found = [_summary(row) for row in connection.execute(part).mappings()]
        yield from found
        if len(found) < page:
            return
        last, page = found[-1].number, _PAGE


def _decided(connection: Connection, run: str, decide: Decide, told: list[Event]) -> RunSummary:
    row = connection.execute(select(schema.runs).where(_RUNS.id == run)).mappings().first()
    if row is None:
        raise NotFound(f"there is no run {run}")
    present = _summary(row)
    change = decide(present)
    return present if change is None else _apply(connection, present, change, told)


def _apply(
    connection: Connection, run: RunSummary, change: Change, told: list[Event]
) -> RunSummary:
    if change.run:
        values = {name: _plain(value) for name, value in change.run.items()}
        connection.execute(update(schema.runs).where(_RUNS.id == run.id).values(**values))
    if change.body:
        bodies = schema.run_bodies
        connection.execute(update(bodies).where(bodies.c.run_id == run.id).values(**change.body))
    changed = RunSummary(**{**vars(run), **change.run})
    if change.attempt:
        _write_attempt(connection, changed, change.attempt)
    write_events(connection, change.events, told)
    return changed


def _write_attempt(connection: Connection, run: RunSummary, values: Mapping[str, Any]) -> None:
    table = schema.attempts
    key = and_(table.c.run_id == run.id, table.c.attempt == run.attempt)
    if connection.execute(update(table).where(key).values(**values)).rowcount == 0:
        row = {"run_id": run.id, "attempt": run.attempt, "state": run.status.value, **values}
        connection.execute(insert(table), row)
