"""
What must be true of every store at every moment, whatever was done to it.

`check_store` looks at an open store, `check_folder` at the data folder of a server that has ended.
Both raise `AssertionError` with all that is wrong. Of a store in which only the services wrote more
is true (``strict``): what a test of the store alone writes need not make sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from physicsrunner.core.run import RunFilter, RunSummary
from physicsrunner.core.state import HELD, TERMINAL, TRANSITIONS, RunState
from physicsrunner.store.base import Store
from physicsrunner.store.sql import SqlStore
from physicsrunner.store.sql_counts import kinds
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

MOST_RUNS: Final = 3_000  # of which each is looked at by itself
_LEADS_TO: Final[Mapping[str, RunState]] = {
    live.QUEUED: RunState.QUEUED,
    live.PREPARING: RunState.PREPARING,
    live.STARTED: RunState.RUNNING,
    live.RESUMED: RunState.RUNNING,
    live.PAUSED: RunState.PAUSED,
    live.RETRIED: RunState.RETRYING,
    live.COMPLETED: RunState.COMPLETED,
    live.FAILED: RunState.FAILED,
    live.CANCELLED: RunState.CANCELLED,
    live.TIMED_OUT: RunState.TIMEOUT,
}


def check_store(store: Store, *, strict: bool = True) -> None:
    """Raise `AssertionError` unless runs, attempts, leases, events and counts agree."""
    runs = list(_every_run(store))
    wrong = [*_counts(store, runs)]
    if len(runs) <= MOST_RUNS:
        of_runs = _events_of_runs(store, wrong)
        for run in runs:
            said = [*_attempts(store, run)] if strict else []
            if strict:
                said += [*_lease(run), *_story(run, of_runs.get(run.id, []))]
            wrong += [f"run {run.number} ({run.id}): {text}" for text in said]
    assert not wrong, "the store is not sound:\n" + "\n".join(f"- {text}" for text in wrong)


def check_folder(data: Path, *, url: str | None = None) -> None:
    """Check the database of a data folder (or of *url*) that no server uses."""
    store = SqlStore(url or f"sqlite:///{data / 'physicsrunner.db'}")
    try:
        check_store(store)
    finally:
        store.close()


def _every_run(store: Store) -> Iterator[RunSummary]:
    offset, size = 0, 1000
    while True:
        page = store.runs(RunFilter(limit=size, offset=offset, sort="created_at"))
        yield from page.runs
        offset += size
        if len(page.runs) < size:
            return


def _counts(store: Store, runs: list[RunSummary]) -> Iterator[str]:
    real: dict[tuple[str, str], Counter[RunState]] = {("all", ""): Counter()}
    for run in runs:
        for owner in kinds(run):
            real.setdefault(owner, Counter())[run.status] += 1
    for (kind, key), counted in real.items():
        kept = store.counts(kind, key)
        if kept != dict(counted):
            yield f"counts of {kind} {key!r} are {kept}, and there are {dict(counted)}"
    total = store.runs(RunFilter(limit=1)).total
    if total != len(runs):
        yield f"the list tells of {total} runs, and there are {len(runs)}"


def _events_of_runs(store: Store, wrong: list[str]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    last = 0
    while page := store.events(after=last, limit=10_000):
        for item in page:
            if item.id is None or item.id <= last:
                wrong.append(f"event {item.id} comes after event {last}")
            last = item.id or last
            if item.run is not None:
                found.setdefault(item.run, []).append(item)
    return found


def _attempts(store: Store, run: RunSummary) -> Iterator[str]:
    kept = store.attempts(run.id)
    if [item.attempt for item in kept] != list(range(1, run.attempt + 1)):
        yield f"attempt {run.attempt}, and the attempts are {[item.attempt for item in kept]}"
    completed = [item.attempt for item in kept if item.state == RunState.COMPLETED.value]
    if len(completed) > 1:
        yield f"attempts {completed} have all completed"
    if run.published_attempt is not None and completed != [run.published_attempt]:
        yield f"attempt {run.published_attempt} is published, and {completed} completed"
    if run.status is RunState.COMPLETED and run.published_attempt is None:
        yield "completed, and no attempt is published"
    if run.status in HELD and kept and kept[-1].agent != run.agent:
        yield f"{run.agent} holds it, and the attempt is of {kept[-1].agent}"


def _lease(run: RunSummary) -> Iterator[str]:
    if run.status in HELD and (run.agent is None or run.deadline is None or run.attempt < 1):
        yield f"{run.status} by {run.agent}, attempt {run.attempt}, deadline {run.deadline}"
    if run.status in TERMINAL and run.deadline is not None:
        yield f"{run.status}, and its deadline is {run.deadline}"
    if run.status not in HELD and run.unreachable:
        yield f"{run.status}, and unreachable"
    if (run.status in TERMINAL) != (run.completed_at is not None):
        yield f"{run.status}, and it ended at {run.completed_at}"


def _story(run: RunSummary, events: list[Event]) -> Iterator[str]:
    """Find steps between the states that events tell of which the state table does not have."""
    states = [_LEADS_TO[item.type] for item in events if item.type in _LEADS_TO]
    for before, after in pairwise(states):
        if after not in TRANSITIONS[before].values():
            yield f"its events lead from {before} to {after}"
    if states and states[-1] is not run.status:
        yield f"{run.status}, and its events end with {states[-1]}"
