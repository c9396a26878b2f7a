"""
How many runs of each state there are, by what they belong to.

Promises: the table agrees with the runs after every transaction; the changes of one transaction are
one statement. What a run is counted under stands in `kinds` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot

#: (kind, key, state) to how many more.
Moves = Counter[tuple[str, str, str]]

_COUNTS: Final = schema.run_counts
#: The fields that say what a run is counted under.
COUNTED: Final = frozenset(
    {"status", "project_id", "created_by", "model_id", "study_id", "agent", "door", "pinned"}
)


def _adding(make: Any) -> Hot:
    statement = make(_COUNTS).values(
        {name: bindparam(name) for name in ("kind", "key", "status", "runs")}
    )
    return Hot(
        statement.on_conflict_do_update(
            index_elements=["kind", "key", "status"],
            set_={"runs": _COUNTS.c.runs + statement.excluded.runs},
        )
    )


_ADD: Final = {"sqlite": _adding(sqlite.insert), "postgresql": _adding(postgresql.insert)}


def kinds(run: RunSummary) -> Iterator[tuple[str, str]]:
    """Iterate over what *run* is counted under."""
    yield "all", ""
    yield "creator", run.created_by
    if run.project_id is None:
        yield "private", run.created_by
    else:
        yield "project", run.project_id
    if run.model_id is not None:
        yield "model", run.model_id
    if run.study_id is not None:
        yield "study", run.study_id
    if run.agent is not None:
        yield "agent", run.agent
    if run.door is not None:
        yield "door", run.door
    if run.pinned:
        yield "pinned", ""
        if run.door is not None:
            yield "pinned", run.door


def moves(before: RunSummary | None, after: RunSummary | None, changed: Moves) -> None:
    """Add to *changed* how counts change when a run *before* is *after*; None: not there."""
    if before is not None:
        for kind, key in kinds(before):
            changed[kind, key, before.status.value] -= 1
    if after is not None:
        for kind, key in kinds(after):
            changed[kind, key, after.status.value] += 1


def write_moves(connection: Connection, changed: Moves) -> None:
    """Add *changed* to the table."""
    # In one order everywhere: two writers never wait for each other.
    rows = [
        {"kind": kind, "key": key, "status": status, "runs": more}
        for (kind, key, status), more in sorted(changed.items())
        if more
    ]
    if rows:
        _ADD[connection.dialect.name].run_many(connection, rows)


def read_counts(connection: Connection, kind: str, key: str) -> dict[RunState, int]:
    """Return how many runs of each state there are under *kind* and *key*."""
    query = select(_COUNTS.c.status, _COUNTS.c.runs).where(
        _COUNTS.c.kind == kind, _COUNTS.c.key == key, _COUNTS.c.runs > 0
    )
    return {RunState(status): int(runs) for status, runs in connection.execute(query)}
