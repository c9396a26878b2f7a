"""Lists of runs in SQL."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_, select

from physicsrunner.core.run import RunFilter
from physicsrunner.store import schema
from physicsrunner.store.rows import RunPage
from physicsrunner.store.sql_events import SqlEvents
from physicsrunner.store.sql_rows import summary_of

_RUNS: Final = schema.runs.c


class SqlLists(SqlEvents):
    """Lists of runs."""

    def runs(self, wanted: RunFilter) -> RunPage:
        """Return one page of the runs that *wanted* describes."""
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
            found = [summary_of(row) for row in connection.execute(page).mappings()]
            return RunPage(found, int(connection.execute(total).scalar_one()))


def _conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        _RUNS[name] == value
        for name in ("project_id", "model_id", "created_by", "agent", "study_id")
        if (value := getattr(wanted, name)) is not None
    ]
    if len(wanted.status) == 1:  # then the index gives the order too
        conditions.append(_RUNS.status == wanted.status[0].value)
    elif wanted.status:
        conditions.append(_RUNS.status.in_([state.value for state in wanted.status]))
    if wanted.name:
        conditions.append(_RUNS.name.icontains(wanted.name, autoescape=True))
    if wanted.projects is not None:
        own = and_(_RUNS.project_id.is_(None), _RUNS.created_by == wanted.visible_to)
        conditions.append(or_(_RUNS.project_id.in_(wanted.projects), own))
    if wanted.tag is not None:
        tagged = select(schema.run_tags.c.run_id).where(schema.run_tags.c.tag == wanted.tag)
        conditions.append(_RUNS.id.in_(tagged))
    return conditions
