"""
How many runs of each state there are, by what they belong to.

Promises: the table agrees with the runs after every transaction; the changes of one transaction are
one statement. What a run is counted under stands in `kinds` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import schema

#: (kind, key, state) to how many more.
Moves = Counter[tuple[str, str, str]]

_COUNTS: Final = schema.run_counts
#: The fields that say what a run is counted under.
COUNTED: Final = frozenset(
    {"status", "project_id", "created_by", "model_id", "study_id", "agent", "door", "pinned"}
)


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


def moves(before: RunSummary | None, after: RunSummary | None) -> Moves:
    """Return how counts change when a run that was *before* is *after*; None: not there."""
    found: Moves = Counter()
    if before is not None:
        for kind, key in kinds(before):
            found[kind, key, before.status.value] -= 1
    if after is not None:
        for kind, key in kinds(after):
            found[kind, key, after.status.value] += 1
    return found


def write_moves(connection: Connection, changed: Moves) -> None:
    """Add *changed* to the table."""
    # In one order everywhere: two writers never wait for each other.
    rows = [
        {"kind": kind, "key": key, "status": status, "runs": more}
        for (kind, key, status), more in sorted(changed.items())
        if more
    ]
    if rows:
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = make(_COUNTS).values(
            {name: bindparam(name) for name in ("kind", "key", "status", "runs")}
        )
        added = statement.on_conflict_do_update(
            index_elements=["kind", "key", "status"],
            set_={"runs": _COUNTS.c.runs + statement.excluded.runs},
        )
        connection.execute(added, rows)


def read_counts(connection: Connection, kind: str, key: str) -> dict[RunState, int]:
    """Return how many runs of each state there are under *kind* and *key*."""
    query = select(_COUNTS.c.status, _COUNTS.c.runs).where(
        _COUNTS.c.kind == kind, _COUNTS.c.key == key, _COUNTS.c.runs > 0
    )
    return {RunState(status): int(runs) for status, runs in connection.execute(query)}
