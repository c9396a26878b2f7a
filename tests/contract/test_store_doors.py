"""Lists of one door's runs: its states, and runs that were asked to stop, on every store."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from physicsrunner.core.run import RunFilter, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.store import sql_lists
from physicsrunner.store.base import Change, Store
from tests.contract.test_store import START, make

DOORS = ("ath", "ath", "other", None)


def fill(store: Store, rounds: int = 2) -> list[RunSummary]:
    """Add runs of each state, asked to stop or not, of this door, another and none."""
    kinds = itertools.product(range(rounds), RunState, (False, True), DOORS)
    runs: list[RunSummary] = []
    for place, (_, state, asked, door) in enumerate(kinds):
        held = state in (RunState.PREPARING, RunState.RUNNING, RunState.PAUSED)
        made = make(
            created_at=START + place,
            name=f"run {place}",
            status=state,
            cancel_requested=asked,
            door=door,
            attempt=1 if held else 0,
            agent="node" if held else None,
            deadline=START if held else None,
        )
        attempt = {"agent": "node", "state": state, "leased_at": START} if held else None
        run, _ = store.add_run(made, [], attempt)
        runs.append(run)
    return runs


def as_door_says(run: RunSummary) -> RunState:
    """Return the state as which the run counts when asking is being cancelled."""
    return RunState.CANCELLED if run.cancel_requested else run.status


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "states",
    [
        [],
        [RunState.RUNNING],
        [RunState.PREPARING, RunState.RUNNING, RunState.PAUSED, RunState.RETRYING],
        [RunState.CANCELLED],
        [RunState.COMPLETED],
        [RunState.CANCELLED, RunState.FAILED, RunState.TIMEOUT],
        list(RunState),
    ],
)
def test_a_door_lists_its_runs_by_state(
    store: Store, states: list[RunState], at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages are exactly its runs in these states, newest first, and the total counts them."""
    monkeypatch.setattr(sql_lists, "WINDOW", 5)  # no page is found by looking at rows
    runs = fill(store)
    wanted = RunFilter(door="ath", status=states, asked_is_cancelled=at_once, limit=7)
    expected = [
        run.id
        for run in reversed(runs)
        if run.door == "ath"
        and (not states or (as_door_says(run) if at_once else run.status) in states)
    ]
    found: list[str] = []
    for offset in range(0, len(expected) + 1, 7):
        page = store.runs(replace(wanted, offset=offset))
        assert (page.total, page.exact) == (len(expected), True)
        found += [run.id for run in page.runs]
    assert found == expected


def test_a_run_changes_its_list_when_it_is_asked_to_stop(store: Store) -> None:
    """From one page to the other it is in the list of the cancelled, and counted there."""
    run, _ = store.add_run(
        make(status=RunState.RUNNING, door="ath", attempt=1, agent="node", deadline=START),
        [],
        {"agent": "node", "state": "running", "leased_at": START},
    )
    wanted = RunFilter(door="ath", status=[RunState.RUNNING], asked_is_cancelled=True)
    assert store.runs(wanted).total == 1
    store.change([(run.id, lambda _run: Change({"cancel_requested": True}))])
    assert (store.runs(wanted).total, store.runs(wanted).runs) == (0, [])
    cancelled = store.runs(replace(wanted, status=[RunState.CANCELLED]))
    assert (cancelled.total, [found.id for found in cancelled.runs]) == (1, [run.id])


def test_without_a_door_asking_counts_the_same(store: Store) -> None:
    """All runs, whatever door they came by, are filtered by the same rule."""
    runs = fill(store, rounds=1)
    wanted = RunFilter(status=[RunState.CANCELLED], asked_is_cancelled=True, limit=1000)
    expected = [run.id for run in reversed(runs) if as_door_says(run) is RunState.CANCELLED]
    assert [run.id for run in store.runs(wanted).runs] == expected
    mine = replace(wanted, projects=[], visible_to="ada")
    seen = [run.id for run in reversed(runs) if run.id in expected and run.created_by == "ada"]
    assert [run.id for run in store.runs(mine).runs] == seen
