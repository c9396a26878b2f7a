"""What the benchmarks of the queue share: a server on either store, a model, many runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transfer
from tests.support.postgres import postgres_server
from tests.support.processes import Processes, ServerProcess

from physicsrunner.client.client import Client

STORES = ("sqlite", "postgres")


@contextlib.contextmanager
def server(store: str) -> Iterator[ServerProcess]:
    """Give a server of its own process on a fresh *store*, with full durability."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(transfer.workplace())
        environment = {}
        if store == "postgres":
            postgres = stack.enter_context(postgres_server(flush=True))
            environment["PHYSICSRUNNER_DATABASE"] = postgres.fresh()
        processes = Processes(place)
        stack.callback(processes.close)
        yield processes.server(place / "data", **environment)


def client(server: ServerProcess) -> Client:
    """Return the administrator's client."""
    return Client(server.url, server.token)


def case() -> Path:
    """Make a case whose main.py does nothing; its folder goes with the process's temporary ones."""
    folder = Path(tempfile.mkdtemp(prefix="physicsrunner-case-"))
    (folder / "main.py").write_text("")
    return folder


def submit(client: Client, count: int) -> tuple[float, dict[str, Any]]:
    """Queue *count* runs by one request; return the seconds that it took, and its answer."""
    from physicsrunner.client.case import read_case
    from physicsrunner.client.options import RunOptions

    found = read_case(case())
    sets = [{"reynolds": number} for number in range(count)]
    client.upload_model(found)
    start = time.perf_counter()
    answer = client.submit_many(found, sets, name="trivial", options=RunOptions(cores=0))
    return time.perf_counter() - start, answer


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
