"""Agents and studies in SQL. The promises are those of `store.base`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Select,
    and_,
    false,
    func,
    insert,
    or_,
    select,
    true,
    union_all,
    update,
)

from physicsrunner.errors import NotFound
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot, loaded
from physicsrunner.store.rows import Actor, AgentRow, StudyFilter, StudyRow
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.store.sql_ways import MOST_BRANCHES
from physicsrunner.wire.live import Event

_AGENTS: Final = schema.agents.c
_STUDIES: Final = schema.studies.c
_NAMES: Final = tuple(field.name for field in fields(AgentRow))
_DOCUMENTS: Final = tuple(name for name in _NAMES if isinstance(_AGENTS[name].type, JSON))
_SELECTED: Final = select(*(_AGENTS[name] for name in _NAMES))
_PRESENT: Final = Hot(_SELECTED.where(_AGENTS.state != "removed").order_by(_AGENTS.id))


class SqlAgents(SqlEvents):
    """The tables of agents and studies."""

    def agent_seen(
        self,
        agent: str,
        *,
        now: float,
        host: Mapping[str, Any],
        labels: Sequence[str],
        resources: Mapping[str, Any] | None = None,
        slots: int | None = None,
    ) -> AgentRow:
        """Keep that an agent was heard of and what it has; return its row."""
        said = {"host": dict(host), "labels": list(labels), "last_seen": now}
        if resources is not None:
            said["resources"] = dict(resources)
        if slots is not None:
            said["slots"] = slots

        def work(transaction: Transaction) -> AgentRow:
            connection = transaction.connection
            known = update(schema.agents).where(_AGENTS.id == agent).values(**said)
            if connection.execute(known).rowcount == 0:
                row = {"resources": {}, "id": agent, "first_seen": now, **said}
                connection.execute(insert(schema.agents), row)
            return _known(connection, agent)

        return self._write(work)

    def agent(self, name: str) -> AgentRow | None:
        """Return an agent, also a removed one; None if it was never heard of."""
        with self._db.read() as connection:
            return _agent(connection, name)

    def agents(self) -> list[AgentRow]:
        """Return all agents but the removed ones, by name."""
        return [_agent_of(row) for row in self._db.ask(_PRESENT)]

    def change_agent(
        self,
        name: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> AgentRow:
        """Change fields of `AgentRow` and write *events*; raise `NotFound` if it is unknown."""

        def work(transaction: Transaction) -> AgentRow:
            connection = transaction.connection
            if fields:
                changed = update(schema.agents).where(_AGENTS.id == name).values(**fields)
                connection.execute(changed)
            row = _known(connection, name)
            transaction.write_events(events)
            return row

        return self._write(work, by)

    def remove_agent(
        self, name: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Put an agent into state removed; say whether it was there."""

        def work(transaction: Transaction) -> bool:
            present = update(schema.agents).where(_AGENTS.id == name, _AGENTS.state != "removed")
            gone = transaction.connection.execute(present.values(state="removed")).rowcount == 1
            if gone:
                transaction.write_events(events)
            return gone

        return self._write(work, by)

    def add_study(self, row: StudyRow, told: Event, *, by: Actor | None = None) -> StudyRow:
        """Keep a study and write *told*; one of that id that is there stays and is returned."""

        def work(transaction: Transaction) -> StudyRow:
            present = _study(transaction.connection, row.id)
            if present is None:
                transaction.connection.execute(insert(schema.studies), vars(row))
                transaction.write_events([told])
            return present or row

        return self._write(work, by)

    def cap_study(self, study_id: str, cap: int | None, told: Event) -> None:
        """Let *cap* runs of a study run at once from now on, and write *told*."""

        def work(transaction: Transaction) -> None:
            changed = update(schema.studies).where(_STUDIES.id == study_id)
            transaction.connection.execute(changed.values(max_concurrent_runs=cap))
            transaction.write_events([told])

        self._write(work, None)

    def study(self, study_id: str) -> StudyRow | None:
        """Return a study; None if there is none."""
        with self._db.read() as connection:
            return _study(connection, study_id)

    def studies(self, wanted: StudyFilter) -> list[StudyRow]:
        """Return one page of the studies that *wanted* describes, the latest first."""
        query = _listed(wanted)
        with self._db.read() as connection:
            return [StudyRow(**row) for row in connection.execute(query).mappings()]


def _agent_of(row: Sequence[Any]) -> AgentRow:
    """Return the agent of a driver's row of `_SELECTED`."""
    values = dict(zip(_NAMES, row, strict=True))
    for name in _DOCUMENTS:
        value = values[name]
        if isinstance(value, str):  # PostgreSQL's driver has read it already
            values[name] = loaded(value)
    return AgentRow(**values)


def _agent(connection: Connection, name: str) -> AgentRow | None:
    query = select(schema.agents).where(_AGENTS.id == name)
    row = connection.execute(query).mappings().first()
    return None if row is None else AgentRow(**row)


def _known(connection: Connection, name: str) -> AgentRow:
    row = _agent(connection, name)
    if row is None:
        raise NotFound(f"there is no agent {name}")
    return row


def _study(connection: Connection, study_id: str) -> StudyRow | None:
    query = select(schema.studies).where(_STUDIES.id == study_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else StudyRow(**row)


def _listed(wanted: StudyFilter) -> Select[Any]:
    """Return the query for a page of studies: each of its branches walks along an index."""
    some = _branches(wanted)
    if wanted.name is not None or not 0 < len(some) <= MOST_BRANCHES:
        # Few bear one name. A statement has only so many branches: for more projects it sorts.
        query = _newest(select(schema.studies), _STUDIES).where(or_(false(), *some))
        if wanted.name is not None:
            query = query.where(_STUDIES.name == wanted.name)
    elif len(some) == 1:
        query = _newest(select(schema.studies), _STUDIES).where(*some)
    else:
        depth = wanted.offset + wanted.limit
        walks = [_newest(select(schema.studies).where(one), _STUDIES).limit(depth) for one in some]
        every = union_all(*(select(walk.subquery()) for walk in walks)).subquery()
        query = _newest(select(every), every.c)
    return query.limit(wanted.limit).offset(wanted.offset)


def _branches(wanted: StudyFilter) -> list[ColumnElement[bool]]:
    """Return what a study may be, each by itself, by its project and who may see it."""
    # Beside a name, whose index is the one to be walked along, no other is to be thought of.
    project = _STUDIES.project_id if wanted.name is None else func.coalesce(_STUDIES.project_id, "")
    if wanted.project_id is not None:
        bounded = wanted.projects is not None and wanted.project_id not in wanted.projects
        return [] if bounded else [project == wanted.project_id]
    if wanted.projects is None:
        return [true()]
    found = [project == one for one in dict.fromkeys(wanted.projects)]
    if wanted.creator is not None:
        found.append(and_(_STUDIES.project_id.is_(None), _STUDIES.created_by == wanted.creator))
    return found


def _newest(query: Select[Any], columns: Any) -> Select[Any]:
    """Return *query* with the newest first; of the same moment the order is always the same."""
    return query.order_by(columns.created_at.desc(), columns.id.desc())
