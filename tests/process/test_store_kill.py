"""What was answered survives ``kill -9``; several processes share one database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from physicsrunner.core.run import RunFilter
from physicsrunner.service.services import build
from physicsrunner.store.sql import SqlStore

# Writes without end and says on standard output what was acknowledged.
WRITER = """
import hashlib, json, sys, time
from pathlib import Path
from physicsrunner.core.run import NewRun
from physicsrunner.service.services import build
from physicsrunner.wire.messages import SyncOp

services = build(Path(sys.argv[1]), now=time.time)
admin = services.access.authenticate(services.admin_token_file.read_text().strip())
_, grant = services.runs.claim(admin, NewRun(name="r"), "host")
bearer = services.access.authenticate(grant.token)
for number in range(10**6):
    data = f"file {number}".encode() * 100
    path = f"outputs/{number}"
    ops = [
        SyncOp(grant.run, 1, path, "append", offset=0, length=len(data)),
        SyncOp(grant.run, 1, path, "seal", size=len(data),
               sha256=hashlib.sha256(data).hexdigest()),
    ]
    writer = services.files.open_frame(bearer, ops)
    writer.feed(data)
    results = writer.finish()
    assert results[1].sealed, results
    run, _ = services.runs.claim(admin, NewRun(name=str(number)), "host")
    print(json.dumps({"run": run.id, "owner": grant.run, "path": path}), flush=True)
"""

# Drains the queue and says which runs it got.
DRAIN = """
import sys, time
from pathlib import Path
from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.resources import Room
from physicsrunner.service.grants import lease_change
from physicsrunner.store.base import Offer
from physicsrunner.store.sql import SqlStore

store = SqlStore(sys.argv[1])
offer = Offer(Room(100, 100, 100, 100), 0.0, (), 2)
while taken := store.acquire(offer, lambda run: lease_change(run, sys.argv[2], 0.0, LeaseTerms())):
    for run in taken:
        print(run.id, flush=True)
store.close()
"""


@pytest.mark.parametrize("lines", [1, 12])
def test_every_acknowledged_row_survives_a_kill(tmp_path: Path, lines: int) -> None:
    """After kill -9 in the midst of writing, every run and sealed file that was said is there."""
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = [
        json.loads(line) for line in [*said, *rest.splitlines(keepends=True)] if line.endswith("\n")
    ]
    assert len(acknowledged) >= lines

    services = build(data, now=time.time)
    try:
        admin = services.access.authenticate(services.admin_token_file.read_text().strip())
        owner = acknowledged[0]["owner"]
        files = {file.path: file for file in services.files.list(admin, owner)}
        for fact in acknowledged:
            assert services.runs.get(admin, fact["run"]).attempt == 1
            assert files[fact["path"]].sealed
        page = services.runs.list(admin, RunFilter(sort="number", limit=1000))
        assert [run.number for run in page.runs] == list(range(1, page.total + 1))
        logged = [event.id for event in services.runs.events(admin, limit=10_000)]
        assert logged == list(range(1, len(logged) + 1))
    finally:
        services.close()


def test_processes_that_drain_one_queue_get_each_run_once(tmp_path: Path) -> None:
    """Four processes on one SQLite file: no run twice, none left, no lock error."""
    from tests.contract.test_store import make

    url = f"sqlite:///{tmp_path / 'queue.db'}"
    store = SqlStore(url)
    wanted = sorted(store.add_run(make(), [])[0].id for _ in range(40))
    store.close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRAIN, url, f"agent-{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]

    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(line for output in outputs for line in output.split()) == wanted
