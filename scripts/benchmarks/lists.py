"""A page of 50 runs, filtered and sorted in every way, at 1,000,000 runs against 10,000."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Text, cast, func, insert, literal, select
from tests.support.postgres import postgres_server

from physicsrunner.core.run import SORT_KEYS, RunFilter, RunRecord
from physicsrunner.core.state import RunState
from physicsrunner.store import schema
from physicsrunner.store.hot import Insert
from physicsrunner.store.sql import SqlStore
from physicsrunner.store.sql_rows import COLUMNS

RATIO = 2.0
P95_MS = 50.0
CHUNK = 20_000
TIMES = ("created_at", "updated_at", "started_at", "completed_at")
ENDED = (RunState.COMPLETED,) * 17 + (RunState.FAILED, RunState.CANCELLED, RunState.TIMEOUT)
KINDS = {
    "all": None,
    "creator": "created_by",
    "private": "created_by",
    "project": "project_id",
    "model": "model_id",
    "study": "study_id",
    "agent": "agent",
    "door": "door",
}


def main(argv: Sequence[str]) -> int:
    """Fill two databases and ask both the same questions."""
    parser = argparse.ArgumentParser(prog="scripts/bench lists")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--against", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found: dict[int, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = None
        if options.database == "postgresql":
            server = stack.enter_context(postgres_server())
        for number in (options.against, options.runs):
            url = f"sqlite:///{folder / str(number)}.db" if server is None else server.fresh()
            store = SqlStore(url)
            try:
                fill(store, number)
                found[number] = ask(store, options.rounds)
            finally:
                store.close()
    return report(found, options)


def report(found: dict[int, dict[str, list[float]]], options: argparse.Namespace) -> int:
    """Print p95 over all questions and the slowest of them."""
    few, many = found[options.against], found[options.runs]
    p95 = {
        number: percentile(list(itertools.chain(*times.values())))
        for number, times in found.items()
    }
    ratio = p95[options.runs] / p95[options.against]
    if options.json:
        print(json.dumps({"p95_ms": p95, "ratio": ratio}))
    else:
        print(f"{options.database}, {len(many)} different lists, {options.rounds} times each")
        for number, value in p95.items():
            print(f"p95 of a page of 50 at {number:>9,} runs {value:8.2f} ms")
        print(f"ratio {ratio:.2f} (at most {RATIO}), and p95 below {P95_MS:.0f} ms")
        slowest = sorted(many, key=lambda name: -statistics.median(many[name]))[:8]
        for name in slowest:
            pair = f"{statistics.median(few[name]):8.2f} -> {statistics.median(many[name]):8.2f} ms"
            print(f"  {name:<44}{pair}")
    return 0 if ratio <= RATIO and p95[options.runs] < P95_MS else 1


def percentile(times: list[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(times, n=20)[-1]


def questions() -> Iterator[tuple[str, RunFilter]]:
    """Iterate over every filter of the API in every order, up and down, and deeper pages."""
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "status": {"status": [RunState.COMPLETED]},
        "two states": {"status": [RunState.FAILED, RunState.RUNNING]},
        "project": {"project_id": "project-3"},
        "project, failed": {"project_id": "project-3", "status": [RunState.FAILED]},
        "a member's projects": {
            "projects": ["project-1", "project-2", "project-3"],
            "visible_to": "user-1",
        },
        "model": {"model_id": "model-7"},
        "creator": {"created_by": "user-2"},
        "creator, failed": {"created_by": "user-2", "status": [RunState.FAILED]},
        "agent": {"agent": "agent-4"},
        "study": {"study_id": "study-5"},
        "door": {"door": "ath"},
        "door, failed": {"door": "ath", "status": [RunState.FAILED]},
        "name": {"name": "run 12"},
        "tag": {"tag": "tag-1"},
    }
    for (name, fields), key, sign in itertools.product(filters.items(), SORT_KEYS, ("", "-")):
        yield f"{name} by {sign}{key}", RunFilter(sort=sign + key, **fields)
    yield "all, page 21", RunFilter(offset=1000)
    yield "project, page 21", RunFilter(project_id="project-3", offset=1000)


def ask(store: SqlStore, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of every question, asked in a mixed order."""
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        mixed = list(questions())
        random.Random(number).shuffle(mixed)
        for name, wanted in mixed:
            start = time.perf_counter()
            store.runs(wanted)
            took = 1000 * (time.perf_counter() - start)
            if number:  # the first round fills the caches
                times.setdefault(name, []).append(took)
    return times


def fill(store: SqlStore, number: int) -> None:
    """Put *number* runs of some years into the database, without their bodies and events."""
    chance = random.Random(1)
    indexes = sorted(schema.runs.indexes, key=lambda index: str(index.name))
    runs = Insert(schema.runs, COLUMNS)
    database = store.database
    with database.write() as connection:
        for index in indexes:
            index.drop(connection)
    made = [a_run(n, chance) for n in range(1, min(CHUNK, number) + 1)]
    with database.write() as connection:
        runs.rows(connection, [[getattr(run, name) for name in COLUMNS] for run in made])
    for start in range(CHUNK, number, CHUNK):
        with database.write() as connection:
            repeat(connection, start, min(CHUNK, number - start))
    with database.write() as connection:
        tag(connection)
        for index in indexes:
            index.create(connection)
        count(connection)


def repeat(connection: Any, start: int, number: int) -> None:
    """Add the first *number* runs once more, later and with other numbers: the database does it."""
    columns = schema.runs.c
    other = {
        "id": literal(f"{start // CHUNK:04x}") + func.substr(columns.id, 5),
        "number": columns.number + start,
        **{name: columns[name] + 60.0 * start for name in TIMES},
    }
    some = select(*(other.get(name, columns[name]) for name in COLUMNS))
    some = some.where(columns.number <= number)
    connection.execute(insert(schema.runs).from_select(COLUMNS, some))


def tag(connection: Any) -> None:
    """Give a tenth of the runs a tag."""
    number = schema.runs.c.number
    word = literal("tag-") + cast(number % 5, Text)
    some = select(schema.runs.c.id, word, number).where((number - 1) // CHUNK % 10 == 0)
    connection.execute(insert(schema.run_tags).from_select(["run_id", "tag", "number"], some))


def count(connection: Any) -> None:
    """Fill the table of counts."""
    columns = schema.runs.c
    for kind, name in KINDS.items():
        key = literal("") if name is None else columns[name]
        query = select(literal(kind), key, columns.status, func.count()).group_by(columns.status)
        if name is not None:
            query = query.where(key.is_not(None)).group_by(key)
        if kind == "private":
            query = query.where(columns.project_id.is_(None))
        names = ["kind", "key", "status", "runs"]
        connection.execute(insert(schema.run_counts).from_select(names, query))


def a_run(number: int, chance: random.Random) -> RunRecord:
    """Return a run such as a group has: most have ended, a few wait or run."""
    fresh = number % 1000 == 0
    status = chance.choice((RunState.QUEUED, RunState.RUNNING)) if fresh else chance.choice(ENDED)
    created = 1.6e9 + 60.0 * number
    return RunRecord(
        id=f"{number:032x}",
        number=number,
        name=f"run {chance.randrange(100_000)}",
        created_by=f"user-{chance.randrange(20)}",
        created_at=created,
        updated_at=created + chance.random() * 1e5,
        status=status,
        project_id=f"project-{chance.randrange(20)}" if number % 10 else None,
        study_id=f"study-{chance.randrange(50)}" if number % 3 == 0 else None,
        model_id=f"model-{chance.randrange(30)}",
        door="ath" if number % 7 == 0 else None,
        priority=chance.choice((1, 1, 1, 2, 3)),
        agent=None if status is RunState.QUEUED else f"agent-{chance.randrange(10)}",
        progress_percent=100.0 if status is RunState.COMPLETED else chance.random() * 100,
        started_at=None if status is RunState.QUEUED else created + chance.random() * 1e4,
        completed_at=created + 1e4 + chance.random() * 1e4 if not fresh else None,
    )
