"""
What must be true after the soak: each function returns what is not, in words.

Nothing here believes one source alone: the run's document, its attempts, its events, the files that
the server gives, those on its disk, and what main.py noted by itself are held against each other.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import requests
from soak_field import Field
from tests.support.invariants import check_folder
from tests.support.processes import Started

from physicsrunner.service.check import check
from physicsrunner.store.database import Database
from physicsrunner.wire import rest

TERMINAL: Final = ("completed", "failed", "cancelled", "timeout")
MORE_FDS: Final = 12  #: connections that a pool keeps
CONNECTIONS: Final = 20  #: of the server to its database: its pool, its readers, who writes
MORE_THREADS: Final = 8  #: idle workers


def judge(field: Field, kinds: Mapping[str, str]) -> tuple[list[str], Counter[str]]:
    """Return what is wrong with the runs, and how they and their attempts ended."""
    problems: list[str] = []
    told: Counter[str] = Counter()
    for run, kind in kinds.items():
        document = field.call("GET", rest.simulation(run))
        attempts = field.call("GET", f"{rest.simulation(run)}/attempts")["data"]
        told[str(document["status"])] += 1
        told.update(f"attempt {attempt['state']}" for attempt in attempts)
        found = _record(field, document, attempts, kind)
        if document["status"] in ("completed", "failed"):
            found += _files(field, document, attempts)
        problems += [f"run {document['number']} ({run}, {kind}): {text}" for text in found]
    return problems, told


def _record(
    field: Field, document: Mapping[str, Any], attempts: list[dict[str, Any]], kind: str
) -> list[str]:
    """The run ended as it had to, and completed once."""
    status, wrong = document["status"], []
    wanted = "failed" if kind == "fails" else "completed"
    if status != wanted:
        why = document.get("error_message") or document.get("reason")
        wrong.append(f"is {status}, not {wanted}: {why}")
    states = Counter(str(attempt["state"]) for attempt in attempts)
    if states["completed"] != (1 if status == "completed" else 0):
        wrong.append(f"{states['completed']} attempts completed: {dict(states)}")
    open_ = [a["attempt"] for a in attempts if a["state"] in ("preparing", "running", "paused")]
    if status in TERMINAL and open_:
        wrong.append(f"attempts {open_} have no end")
    events = field.call("GET", f"{rest.EVENTS}?run={document['id']}&limit=1000")
    listed = events["data"] if isinstance(events, dict) and "data" in events else events
    kinds = Counter(event["type"] for event in listed)
    if kinds[f"simulation/{status}"] != 1:
        wrong.append(f"{kinds[f'simulation/{status}']} events simulation/{status}: {dict(kinds)}")
    return wrong


def _files(field: Field, document: Mapping[str, Any], attempts: list[dict[str, Any]]) -> list[str]:
    """What the server gives is what main.py of the published attempt wrote, and nothing else."""
    run, wrong = str(document["id"]), []
    completed = [a["attempt"] for a in attempts if a["state"] == "completed"]
    last = completed[0] if completed else max(a["attempt"] for a in attempts)
    truth = field.truth / f"{run}-{last}.json"
    if not truth.exists():
        # A failed run whose last attempt was killed noted nothing: there is nothing to compare.
        return [f"attempt {last} completed and main.py noted nothing"] if completed else []
    expected = json.loads(truth.read_text())["digests"]
    listed = field.call("GET", f"{rest.simulation(run)}/artifacts?limit=1000")["data"]
    files = [f for f in listed if "data_files" in f["path"] or f["path"].startswith("logs/")]
    stored = {file["path"].rpartition("/")[2]: file for file in files}
    for name, digest in expected.items():
        file = stored.pop(name, None)
        if file is None:
            wrong.append(f"{name} is not there")
        elif not file["sealed"] or file["sha256"] != digest:
            wrong.append(f"{name} is {file['sha256']} (sealed: {file['sealed']}), not {digest}")
        elif _fetched(field, run, file["path"]) != digest:
            wrong.append(f"{name}: other bytes come back")
    wrong += [f"{name} is not of the published attempt {last}" for name in stored]
    return wrong


def _fetched(field: Field, run: str, path: str) -> str:
    answer = requests.get(
        field.server.url + rest.artifact(run, path),
        headers={"Authorization": f"Bearer {field.server.token}"},
        timeout=60,
    )
    return hashlib.sha256(answer.content).hexdigest()


def database(field: Field, now: float) -> list[str]:
    """The database is whole, and every file that it knows lies on the disk."""
    with closing(Database(field.url or f"sqlite:///{field.data / 'physicsrunner.db'}")) as opened:
        found = check(field.data, opened, now=now)
    wrong = [f"database: {text}" for text in found.database]
    wrong += [f"missing on the disk: {path}" for path in found.missing]
    wrong += [f"changed on the disk: {path}" for path in found.changed]
    return wrong + _invariants(field)


def _invariants(field: Field) -> list[str]:
    """The invariants of the store's own tests."""
    try:
        check_folder(field.data, url=field.url)
    except AssertionError as error:
        return [f"invariant: {error}"]
    return []


def leaks(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return who has more open files or threads than at the start, beyond what pools keep."""
    wrong = []
    for name, (fds, threads) in after.items():
        most_fds, most_threads = before[name]
        if fds > most_fds + MORE_FDS:
            wrong.append(f"{name} has {fds} open files, {most_fds} at the start")
        if threads > most_threads + MORE_THREADS:
            wrong.append(f"{name} has {threads} threads, {most_threads} at the start")
    return wrong


def held(opened: Mapping[str, list[str]], runs: Iterable[str]) -> list[str]:
    """Return who still has a file of a run open, when all runs have ended: none may."""
    known = set(runs)
    return [
        f"{name} still has {path} open"
        for name, paths in opened.items()
        for path in paths
        if not known.isdisjoint(path.split("/"))
    ]


def ends(agents: list[Started]) -> list[str]:
    """Return which agents did not end by themselves, and well, when they were asked to."""
    return [
        f"{Path(agent.log).name}: the agent ended with {agent.returncode} when it was stopped"
        for agent in agents
        if agent.returncode != 0
    ]


def connections(kept: int) -> list[str]:
    """Return whether the server keeps more connections to its database than it may."""
    return [f"server keeps {kept} connections to its database"] if kept > CONNECTIONS else []


def tracebacks(started: list[Started]) -> list[str]:
    """Return faults of our own that a process printed."""
    found = []
    for one in started:
        text = one.output()
        if "Traceback (most recent call last)" in text:
            at = text.index("Traceback (most recent call last)")
            found.append(f"{Path(one.log).name}: {text[at : at + 3000]}")
    return found
