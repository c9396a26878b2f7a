"""
How many runs of each state there are, by what they belong to.

Promises: the table agrees with the runs after every transaction; the changes of one transaction are
one statement. What a run is counted under stands in `kinds` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, literal_column, select

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import Hot, Insert

#: (kind, key, state) to how many more.
Moves = Counter[tuple[str, str, str]]

_COUNTS: Final = schema.run_counts
#: The fields that say what a run is counted under.
COUNTED: Final = frozenset(
    {
        "status",
        "project_id",
        "created_by",
        "model_id",
        "study_id",
        "agent",
        "door",
        "pinned",
        "cancel_requested",
    }
)

_counted_by: Final = attrgetter(*sorted(COUNTED))

_ADD: Final = Insert(
    _COUNTS,
    ("kind", "key", "status", "runs"),
    "ON CONFLICT (kind, key, status) DO UPDATE SET runs = run_counts.runs + excluded.runs",
)


#: How many runs of each state there are under a kind and a key.
COUNTS: Final = Hot(
    select(_COUNTS.c.status, _COUNTS.c.runs).where(
        _COUNTS.c.kind == bindparam("kind"),
        _COUNTS.c.key == bindparam("key"),
        _COUNTS.c.runs > literal_column("0"),
    )
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
        if run.cancel_requested:
            yield "asked", run.door
    if run.pinned:
        yield "pinned", ""
        if run.door is not None:
            yield "pinned", run.door


def moves(before: RunSummary | None, after: RunSummary | None, changed: Moves) -> None:
    """Add to *changed* how counts change when a run *before* is *after*; None: not there."""
    for run, more in ((before, -1), (after, 1)):
        if run is not None:
            status = run.status.value
            for kind, key in kinds(run):
                place = kind, key, status
                changed[place] = changed.get(place, 0) + more


def came(runs: Iterable[RunSummary], changed: Moves) -> None:
    """Add to *changed* that *runs* are there now: most of many that come at once are alike."""
    alike: dict[tuple[Any, ...], tuple[RunSummary, int]] = {}
    for run in runs:
        key = _counted_by(run)
        alike[key] = run, alike.get(key, (run, 0))[1] + 1
    for run, number in alike.values():
        for kind, owner in kinds(run):
            changed[kind, owner, run.status.value] += number


def write_moves(connection: Connection, changed: Moves) -> None:
    """Add *changed* to the table."""
    # In one order everywhere: two writers never wait for each other.
    rows = [
        (kind, key, status, more) for (kind, key, status), more in sorted(changed.items()) if more
    ]
    if rows:
        _ADD.rows(connection, rows)


def read_counts(connection: Connection, kind: str, key: str) -> dict[RunState, int]:
    """Return how many runs of each state there are under *kind* and *key*."""
    return counts_of(COUNTS.run(connection, {"kind": kind, "key": key}).fetchall())


def counts_of(rows: Iterable[Sequence[Any]]) -> dict[RunState, int]:
    """Return what the driver's rows of `COUNTS` say."""
    return {RunState(status): int(runs) for status, runs in rows}
