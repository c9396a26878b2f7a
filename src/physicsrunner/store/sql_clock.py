"""What the clock asks of the table of runs: which are late, lost, wait too long or may go."""

from __future__ import annotations

from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, text

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import LEASABLE, TERMINAL, RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot
from physicsrunner.store.partial import IS_HELD
from physicsrunner.store.sql_counts import read_counts
from physicsrunner.store.sql_events import SqlEvents
from physicsrunner.store.sql_rows import SELECTED, run_of, summary_of

_RUNS: Final = schema.runs.c
_IS_HELD: Final = cast("ColumnElement[bool]", text(IS_HELD))
_LEASABLE: Final = sorted(state.value for state in LEASABLE)
_TERMINAL: Final = sorted(state.value for state in TERMINAL)
_OF_AGENT: Final = (
    select(*SELECTED).where(_RUNS.agent == bindparam("agent"), _IS_HELD).order_by(_RUNS.number)
)
_ACTIVE: Final = Hot(_OF_AGENT)
_UNCONFIRMED: Final = Hot(
    _OF_AGENT.with_only_columns(_RUNS.id, _RUNS.attempt).where(
        _RUNS.status == literal_column(f"'{RunState.PREPARING.value}'"),
        _RUNS.confirmed.is_(False),
        _RUNS.claimed.is_(False),
    )
)


class SqlClock(SqlEvents):
    """Questions about time."""

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""
        query = (
            select(_RUNS.id)
            .where(_IS_HELD)
            .where(_RUNS.deadline < now, _RUNS.unreachable.is_(False))
            .limit(limit)
        )
        return self._ids(query)

    def lost(self, now: float, grace_s: float, limit: int = 1000) -> list[RunSummary]:
        """Return unreachable runs whose deadline is more than *grace_s* seconds ago."""
        query = (
            select(schema.runs)
            .where(_IS_HELD)
            .where(_RUNS.deadline < now - grace_s, _RUNS.unreachable.is_(True))
            .where(_RUNS.on_lost_contact != "wait")
            .limit(limit)
        )
        return self._summaries(query)

    def waiting_too_long(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs that wait longer than their ``queue_limit_s``."""
        since = func.coalesce(_RUNS.not_before, _RUNS.created_at)
        query = (
            select(_RUNS.id)
            .where(_RUNS.status.in_(_LEASABLE), _RUNS.queue_limit_s.is_not(None))
            .where(_RUNS.held.is_(False), since + _RUNS.queue_limit_s < now)
            .limit(limit)
        )
        return self._ids(query)

    def unconfirmed(self, agent: str) -> list[tuple[str, int]]:
        """Return attempts leased to *agent* of which it has not been heard since: run, number."""
        return [(run, attempt) for run, attempt in self._db.ask(_UNCONFIRMED, {"agent": agent})]

    def active_on(self, agent: str) -> list[RunSummary]:
        """Return the runs that *agent* holds now, by their number."""
        return [run_of(row) for row in self._db.ask(_ACTIVE, {"agent": agent})]

    def ended(
        self,
        before: float | None = None,
        keep: int | None = None,
        door: str | None = None,
        limit: int = 1000,
    ) -> list[str]:
        """Return the ids of ended runs that retention may delete, the oldest first."""
        query = (
            select(_RUNS.id)
            .where(_RUNS.status.in_(_TERMINAL), _RUNS.pinned.is_(False))
            .order_by(_RUNS.completed_at, _RUNS.number)
        )
        if door is not None:
            query = query.where(_RUNS.door == door)
        found: list[str] = []
        if keep is not None:
            found = self._ids(query.limit(min(limit, self._beyond(keep, door))))
        if before is not None:
            found += self._ids(query.where(_RUNS.completed_at < before).limit(limit))
        return list(dict.fromkeys(found))[:limit]

    def _beyond(self, keep: int, door: str | None) -> int:
        """Return how many ended runs that are not pinned there are beyond *keep*."""
        with self._db.read() as connection:
            there = read_counts(connection, *(("all", "") if door is None else ("door", door)))
            pinned = read_counts(connection, "pinned", door or "")
        number = sum(there.get(state, 0) - pinned.get(state, 0) for state in TERMINAL)
        return max(0, number - keep)

    def _ids(self, query: Select[Any]) -> list[str]:
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def _summaries(self, query: Select[Any]) -> list[RunSummary]:
        with self._db.read() as connection:
            return [summary_of(row) for row in connection.execute(query).mappings()]
