"""Acquire + complete at the store, one by one, full durability: SQLite, PostgreSQL, this disk."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import binaries, postgres_server

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.service import facts
from physicsrunner.service.grants import lease_change
from physicsrunner.service.reports import reported
from physicsrunner.store.base import Decide, Offer
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.messages import Report

AT_LEAST = 1000.0  # runs a second, by eight callers
BATCH = 10_000
BATCH_S = 1.0
TERMS = LeaseTerms()


@dataclass
class Figures:
    """What one database reaches."""

    batch_s: float  #: for 10,000 runs in one call
    one: float  #: runs a second, one caller
    many: float  #: runs a second, eight callers


def main(argv: Sequence[str]) -> int:
    """Measure each database in a folder of its own on the disk of --folder."""
    parser = argparse.ArgumentParser(prog="scripts/bench store")
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--folder", default=None, help="default: where temporary files lie")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        flushes = flush_rate(Path(folder))
        for kind, url in databases(Path(folder), options.only):
            with url as address:
                found[kind] = measure(address, options.runs, options.callers)
    if options.json:
        print(json.dumps({"flushes": flushes, **{k: vars(v) for k, v in found.items()}}))
        return 0
    print(f"{'fdatasync of 16 KiB on this disk':<46}{flushes:8.0f} /s")
    good = True
    for kind, figures in found.items():
        good = good and figures.many >= AT_LEAST and figures.batch_s <= BATCH_S
        print(f"{kind}: a batch of {BATCH:,} runs in one call{figures.batch_s:>14.2f} s")
        print(f"{kind}: one caller, acquire + complete{figures.one:>14.0f} runs/s")
        print(f"{kind}: {options.callers} callers, acquire + complete{figures.many:>12.0f} runs/s")
        print(
            f"{'':<10}transactions a flush of the disk, 8 callers {2 * figures.many / flushes:6.1f}"
        )
    print(f"at least {AT_LEAST:.0f} runs/s with several callers, a batch within {BATCH_S} s")
    return 0 if good else 1


def databases(
    folder: Path, only: str | None
) -> Iterator[tuple[str, contextlib.AbstractContextManager[str]]]:
    """Iterate over the databases that can be had here."""
    if only != "postgresql":
        yield "SQLite", contextlib.nullcontext(f"sqlite:///{folder / 'bench.db'}")
    if only != "sqlite" and binaries() is not None:
        yield "PostgreSQL", _postgres()


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    with postgres_server(flush=True) as server:
        yield server.fresh()


def measure(url: str, runs: int, callers: int) -> Figures:
    """Queue runs in one batch, then carry them out by one caller and by many."""
    store = SqlStore(url)
    try:
        batch_s = queue(store, BATCH)
        return Figures(batch_s, rate(store, runs // 4, 1), rate(store, runs, callers))
    finally:
        store.close()


def queue(store: SqlStore, number: int) -> float:
    """Put *number* runs into the queue; return the seconds that took."""
    now = time.time()
    items = []
    for place in range(number):
        run = RunRecord(
            id=str(uuid.uuid4()),
            number=0,
            name=f"run {place}",
            created_by="bench",
            created_at=now,
            updated_at=now,
            project_id="bench",
            parameters={"inputs": {"place": place}},
        )
        items.append((run, [facts.requested(run, now), facts.queued(run, now)]))
    start = time.perf_counter()
    store.add_runs(items)
    return time.perf_counter() - start


def rate(store: SqlStore, runs: int, callers: int) -> float:
    """Return the runs a second that *callers* at once acquire and complete, one a call."""
    left = threading.Semaphore(runs)

    def work(agent: str) -> None:
        while left.acquire(blocking=False):
            complete(store, agent, acquire(store, agent))

    threads = [threading.Thread(target=work, args=(f"agent-{n}",)) for n in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs / (time.perf_counter() - start)


def acquire(store: SqlStore, agent: str) -> RunSummary:
    """Lease one run."""
    now = time.time()
    offer = Offer(Room(cpu_cores=1), now, (), 1)
    return store.acquire(offer, lambda run: lease_change(run, agent, now, TERMS))[0]


def complete(store: SqlStore, agent: str, run: RunSummary) -> None:
    """Report, in one call, that the run has started and that it has completed."""
    now = time.time()
    states = (RunState.RUNNING, RunState.COMPLETED)
    for answer in store.change([(run.id, saying(run, agent, state, now)) for state in states]):
        if not isinstance(answer, RunSummary):
            raise answer


def saying(run: RunSummary, agent: str, state: RunState, now: float) -> Decide:
    """Return the decision on one report."""
    report = Report(run.id, run.attempt, state)
    return lambda present: reported(present, report, agent, unsealed=(), now=now)


def flush_rate(folder: Path, number: int = 300) -> float:
    """Return how many times a second this disk makes a small write durable."""
    handle = os.open(folder / "flushes", os.O_CREAT | os.O_RDWR)
    try:
        os.write(handle, bytes(4096 * number))
        os.fsync(handle)
        start = time.perf_counter()
        for place in range(number):
            os.pwrite(handle, os.urandom(16384), (place % (number - 4)) * 4096)
            os.fdatasync(handle)
        return number / (time.perf_counter() - start)
    finally:
        os.close(handle)
