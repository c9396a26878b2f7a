"""How the databases carry out every list: along an index, without sorting a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from physicsrunner.core.run import SORT_KEYS, RunFilter, RunRecord
from physicsrunner.core.state import RunState
from physicsrunner.store.base import Store, StudyFilter
from physicsrunner.store.sql import SqlStore
from tests.contract.test_store import START, make

FILTERS: list[dict[str, Any]] = [
    {},
    {"status": [RunState.FAILED]},
    {"status": [RunState.FAILED, RunState.QUEUED]},
    {"project_id": "p1"},
    {"project_id": "p1", "status": [RunState.COMPLETED]},
    {"projects": ["p1", "p2"], "visible_to": "ada"},
    {"model_id": "m1"},
    {"created_by": "ada"},
    {"agent": "x1"},
    {"study_id": "s1"},
    {"door": "ath"},
    {"name": "n1"},
    {"tag": "t"},
]

#: Lists of what there is much of, besides the runs; of people, agents and models there are few.
OTHERS: dict[str, Callable[[SqlStore], object]] = {
    "studies": lambda store: store.studies(StudyFilter()),
    "studies of a project": lambda store: store.studies(StudyFilter("p1")),
    "studies of a name": lambda store: store.studies(StudyFilter(name="n")),
    "studies of a name for one": lambda store: store.studies(
        StudyFilter(name="n", projects=["p1", "p2"], creator="ada")
    ),
    "studies of a person": lambda store: store.studies(StudyFilter(projects=[], creator="ada")),
    "events": lambda store: store.events(after=7),
    "events of a run": lambda store: store.events(f"{7:036d}"),
    "audit": lambda store: store.audit(after=7),
    "audit of a person": lambda store: store.audit(actor="ada"),
    "tokens of a person": lambda store: store.read_accounts(lambda book: book.tokens("ada")),
    "dead letters": lambda store: store.dead_letters("w", after=7),
}


@pytest.fixture
def filled(store: Store) -> SqlStore:
    """Give a SQL store with runs of every kind."""
    assert isinstance(store, SqlStore)
    states = [RunState.QUEUED, RunState.FAILED, RunState.COMPLETED, RunState.RUNNING]
    items: list[tuple[RunRecord, list[Any]]] = [
        (
            make(
                f"{n:036d}",
                name=f"n{n}",
                created_at=START + n,
                status=states[n % 4],
                project_id=(None, "p1", "p2")[n % 3],
                model_id=f"m{n % 2}",
                study_id=f"s{n % 5}",
                agent=f"x{n % 2}",
                door=("ath", None)[n % 2],
                tags=["t"],
            ),
            [],
        )
        for n in range(300)
    ]
    store.add_runs(items)
    return store


def plans(
    store: SqlStore, ask: Callable[[SqlStore], object]
) -> Iterator[list[tuple[int, int, str]]]:
    """Iterate over the plans of the statements of a question: (node, parent, what it does)."""
    engine = store.database.engine
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _x: Any, many: bool) -> None:
        if statement.startswith("SELECT") and not many:
            seen.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        ask(store)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with store.database.read() as connection:
        for statement, values in seen:
            if store.database.dialect == "sqlite":
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                yield [(row[0], row[1], row[3]) for row in rows]
            else:
                rows = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
                nodes: list[tuple[int, int, str]] = []
                _flatten(rows.scalar_one()[0]["Plan"], 0, nodes)
                yield nodes


def _flatten(plan: dict[str, Any], parent: int, nodes: list[tuple[int, int, str]]) -> None:
    number = len(nodes) + 1
    nodes.append((number, parent, f"{plan['Node Type']} {plan.get('Relation Name', '')}".strip()))
    for part in plan.get("Plans", []):
        _flatten(part, number, nodes)


def unbounded(plan: list[tuple[int, int, str]]) -> list[str]:
    """Return the steps that read or sort a whole table."""
    found = []
    of = {node: (parent, what) for node, parent, what in plan}
    for node, parent, what in plan:
        if what.startswith("SCAN runs") and "USING" not in what:
            found.append(what)
        if what.startswith(("Seq Scan runs", "Seq Scan run_tags")):
            found.append(what)
        if "TEMP B-TREE FOR ORDER BY" in what or "TEMP B-TREE FOR RIGHT PART" in what:
            beside = [other for _, up, other in plan if up == parent]
            found += [f"{what} of {other}" for other in beside if " runs" in other]
        if what == "Sort":
            # Up to a Limit everything below is what the Limit lets through.
            found += [
                f"{what} of {other}"
                for below, _, other in plan
                if other.endswith(" runs") and _reaches(below, node, of)
            ]
    return found


def _reaches(below: int, node: int, of: dict[int, tuple[int, str]]) -> bool:
    while below != node:
        if below == 0 or of[below][1] == "Limit":
            return False
        below = of[below][0]
    return True


@pytest.mark.parametrize("opener", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("fields", FILTERS, ids=str)
def test_no_list_reads_or_sorts_a_whole_table(filled: SqlStore, fields: dict[str, Any]) -> None:
    """Whatever is filtered and in whatever order: an index has it, or few rows are looked at."""
    for key, sign in itertools.product(SORT_KEYS, ("", "-")):
        wanted = RunFilter(sort=sign + key, **fields)
        for plan in plans(filled, lambda store, by=wanted: store.runs(by)):  # type: ignore[misc]
            assert unbounded(plan) == [], (sign + key, plan)


@pytest.mark.parametrize("opener", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", list(OTHERS))
def test_no_other_list_reads_or_sorts_a_whole_table(filled: SqlStore, name: str) -> None:
    """What grows with the runs or with time is found along an index, and comes in its order."""
    found = list(plans(filled, OTHERS[name]))
    assert found
    steps = [what for plan in found for _, _, what in plan]
    assert [what for what in steps if what.startswith("SCAN") and "INDEX" not in what] == []
    assert [what for what in steps if what == "USE TEMP B-TREE FOR ORDER BY"] == []


@pytest.mark.parametrize("opener", ["sqlite"], indirect=True)
def test_the_studies_of_a_member_are_walked_along_their_indexes(filled: SqlStore) -> None:
    """Of each project, and of their own, no more is read than goes on the page."""
    wanted = StudyFilter(projects=["p1", "p2"], creator="ada")
    (plan,) = plans(filled, lambda store: store.studies(wanted))
    steps = [what for _, _, what in plan]
    index = "SEARCH studies USING INDEX ix_studies_"
    assert [step for step in steps if " studies" in step] == [
        f"{index}project_id_created_at (project_id=?)",
        f"{index}project_id_created_at (project_id=?)",
        f"{index}created_by_created_at (created_by=?)",
    ]
    # What comes out of the walks is put in order; they themselves only among the same moment.
    sorts = {up for _, up, what in plan if what == "USE TEMP B-TREE FOR ORDER BY"}
    assert not [step for _, up, step in plan if up in sorts and " studies" in step]


def test_a_scan_and_a_sort_would_be_seen() -> None:
    """The check itself finds what it is for."""
    assert unbounded([(2, 0, "SCAN runs")])
    assert unbounded([(2, 0, "SEARCH runs USING INDEX x"), (9, 0, "USE TEMP B-TREE FOR ORDER BY")])
    assert not unbounded([(2, 0, "SCAN runs USING INDEX ix_runs_created")])
    assert unbounded([(1, 0, "Limit"), (2, 1, "Sort"), (3, 2, "Index Scan runs")])
    assert not unbounded([(1, 0, "Sort"), (2, 1, "Limit"), (3, 2, "Index Scan runs")])
