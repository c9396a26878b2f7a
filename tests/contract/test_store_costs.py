"""What the store's calls cost: neither all studies, nor all events, nor all runs are looked at."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from physicsrunner.core.run import RunFilter, RunRecord
from physicsrunner.core.state import RunState
from physicsrunner.store import sql_events, sql_lists, sql_walks
from physicsrunner.store.base import Change, Store
from physicsrunner.store.rows import StudyRow
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.live import Event
from tests.contract.test_store import START, fact, lease, make

both = pytest.mark.parametrize("opener", ["sqlite", "postgresql"], indirect=True)


@both
def test_a_page_that_may_lack_runs_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all that may match were looked at, the page is not called exact."""
    monkeypatch.setattr(sql_lists, "WINDOW", 8)
    store.add_runs(
        [
            (make(name=f"n{n % 5}", created_by="ada", created_at=START + n, project_id="p"), [])
            for n in range(40)
        ]
    )
    few: list[tuple[RunRecord, list[Event]]] = [
        (make(name=f"few{n}", created_by="bob", created_at=START, project_id="p"), [])
        for n in range(3)
    ]
    store.add_runs(few)
    by_name = RunFilter(created_by="ada", project_id="p", sort="name", limit=20)

    assert not store.runs(by_name).exact
    assert not store.runs(replace(by_name, project_id=None)).exact
    assert store.runs(replace(by_name, sort="created_at", project_id=None)).exact
    page = store.runs(replace(by_name, created_by="bob"))
    assert page.exact
    assert [run.name for run in page.runs] == ["few0", "few1", "few2"]


@both
def test_all_of_several_branches_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many runs as may be looked at are, however they lie in projects."""
    monkeypatch.setattr(sql_lists, "WINDOW", 12)
    projects = ["many"] * 9 + ["few"] * 2
    store.add_runs([(make(project_id=name), []) for name in projects])
    page = store.runs(RunFilter(projects=["few", "many"], sort="name", limit=50))
    assert (len(page.runs), page.exact) == (11, True)


@pytest.mark.parametrize("opener", ["sqlite"], indirect=True)
def test_no_lease_reads_all_studies(store: Store) -> None:
    """Runs of full studies are passed over by an index of those that hold runs."""
    assert isinstance(store, SqlStore)
    with store.database.read() as connection:
        for walk in ("start", "behind", "below"):
            made = getattr(sql_walks.NOT_OF_FULL, walk)._for(connection)
            asked = [None] * made.sql.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {made.sql}", tuple(asked))
            steps = [row[3] for row in plan]
            assert not [step for step in steps if step.startswith(("SCAN stud", "SCAN proj"))]
            scans = [step for step in steps if "run_counts" in step]
            assert scans
            assert all("ix_run_counts_busy" in step for step in scans), steps


def test_runs_behind_those_of_full_studies_are_handed_out(store: Store) -> None:
    """Many capped studies before it in the queue do not keep a run from its agent."""
    for name in range(6):
        study = StudyRow(f"s{name}", "s", "ada", START, max_concurrent_runs=1)
        store.add_study(study, fact("", "a"))
    store.add_runs([(make(study_id=f"s{n % 6}"), []) for n in range(30)])
    free, _ = store.add_run(make(), [])

    first = [run.study_id for run in lease(store, "a", limit=4)]
    rest = lease(store, "b", limit=20)
    assert first == ["s0", "s1", "s2", "s3"]
    assert [run.study_id for run in rest] == ["s4", "s5", None]
    assert rest[-1].id == free.id
    assert lease(store, "c", limit=20) == []


@both
def test_events_are_pruned_part_by_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call looks at some events alone; a few calls have looked at all, and begin anew."""
    monkeypatch.setattr(sql_events, "LOOKED_AT", 4)
    kept, _ = store.add_run(make(), [])
    store.append_events([fact(kept.id) for _ in range(9)])
    store.append_events([fact("gone"), fact(kept.id), fact("gone")])
    counts = [store.prune_events(START + 1, audit=False) for _ in range(4)]
    assert sum(counts) == 2
    assert counts[0] == 0
    assert {event.run for event in store.events()} == {kept.id}


def test_a_run_that_is_changed_twice_in_a_call_is_written_as_the_last_says(store: Store) -> None:
    """What one decision of a call does the next one sees; both events are there, in their order."""
    run, _ = store.add_run(make(), [])
    lease(store, "a")
    seen: list[RunState] = []

    def to(state: RunState, **fields: object) -> Change:
        attempt = {"state": state.value, **fields}
        return Change({"status": state, "label": state.value}, {}, attempt, [fact(run.id, state)])

    def start(present: object) -> Change:
        return to(RunState.RUNNING, started_at=START)

    def end(present: object) -> Change:
        seen.append(present.status)  # type: ignore[attr-defined]
        return to(RunState.COMPLETED, ended_at=START + 1)

    answers = store.change([(run.id, start), (run.id, end)])

    assert seen == [RunState.RUNNING]
    assert [answer.status for answer in answers] == [RunState.RUNNING, RunState.COMPLETED]  # type: ignore[union-attr]
    there = store.record(run.id)
    assert there is not None
    assert (there.status, there.label) == (RunState.COMPLETED, "completed")
    (attempt,) = store.attempts(run.id)
    assert (attempt.state, attempt.started_at, attempt.ended_at) == ("completed", START, START + 1)
    assert [event.type for event in store.events(run.id)][-2:] == ["running", "completed"]
    assert store.counts("all") == {RunState.COMPLETED: 1}


@pytest.mark.parametrize("opener", ["sqlite"], indirect=True)
def test_no_statement_of_a_lease_is_compiled_twice(store: Store) -> None:
    """The queue of each state is asked for by one compiled statement, again and again."""
    assert isinstance(store, SqlStore)
    store.add_runs([(make(), []) for _ in range(4)])
    for _ in range(4):
        assert len(lease(store, "a", limit=1)) == 1
    with store.database.write() as connection:
        driver: Any = connection.connection.driver_connection
        try:
            found = driver.execute("SELECT sql, run FROM sqlite_stmt").fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite does not tell which statements it has compiled")
    walks = [run for sql, run in found if "ORDER BY runs.priority" in sql]
    assert sum(walks) == 8
