"""Many attempts in one process, by one station, with a server of the test."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from physicsrunner.client.uplink import ALL_OPERATIONS, Outgoing, Uplink
from physicsrunner.core.state import RunState
from physicsrunner.runner.api import load_config
from physicsrunner.runner.attempt import carry_out
from physicsrunner.runner.place import Place
from physicsrunner.runner.result import RunResult
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import StopRequest
from physicsrunner.wire.messages import (
    LeaseGrant,
    Limits,
    Report,
    ReportAnswer,
    StoredFile,
    SyncResult,
)
from tests.support.cases import make_work_folder
from tests.support.wait import wait_until

WAIT = """
    print("begun", flush=True)
    while not (work / "stop.request").exists() and not (inputs / "go").exists():
        time.sleep(0.01)
    print("ended", flush=True)
"""


class Server:
    """Keeps what it is told and sent; it speaks with an agent's token, so none is ever set."""

    operations = ALL_OPERATIONS

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.reports: list[Report] = []
        self.requests = 0
        self.files_of: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.sealed: set[tuple[str, str]] = set()
        self.answer: dict[str, Any] = {}
        self.strict = False  #: a run completes only when all files are sealed

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        with self.guard:
            self.requests += 1
            self.reports += reports
            if self.strict and reports[-1].state is RunState.COMPLETED:
                run = reports[-1].run
                left = [path for path in self.files_of[run] if (run, path) not in self.sealed]
                self.answer = {"error": "not_sealed", "unsealed": left} if left else {}
        return [ReportAnswer(report.run, report.attempt, **self.answer) for report in reports]

    def files(self, run: str, attempt: int) -> Mapping[str, StoredFile]:
        assert attempt == 1
        kept = self.files_of[run].items()
        return {p: StoredFile(p, len(data), (run, p) in self.sealed) for p, data in kept}

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        with self.guard:
            return [self._done(item) for item in batch]

    def _done(self, item: Outgoing) -> SyncResult:
        op, files = item.op, self.files_of[item.op.run]
        data = files.get(op.path, b"")
        if op.op in ("append", "write"):
            assert item.data is not None
            assert op.offset is not None
            files[op.path] = data[: op.offset] + bytes(item.data)
        elif op.op == "truncate":
            files[op.path] = data[: op.size]
        elif op.op == "remove":
            files.pop(op.path, None)
            return SyncResult(0)
        elif op.op == "seal":
            self.sealed.add((op.run, op.path))
        return SyncResult(len(files.get(op.path, b"")), sealed=op.op == "seal")

    def set_token(self, token: str) -> None:
        raise AssertionError(f"the station speaks with the agent's token, not with {token}")

    def states(self, run: str) -> list[RunState]:
        return [report.state for report in self.reports if report.run == run and report.state]

    def close(self) -> None:
        """Nothing is open."""


class Crowd:
    """Attempts of one station."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = Server()
        self.station = Station(root, cast("Uplink", self.server))
        self.station.start()
        self.pool = ThreadPoolExecutor(64)
        self.stops: dict[str, StopRequest] = {}

    def begin(
        self, run: str, main: str = WAIT, *, place: Place | None = None, **changes: Any
    ) -> Future[RunResult]:
        """Begin an attempt with a grant that has *changes*."""
        folder = self.root / run / "1"
        keys: dict[str, Any] = {
            "server": "http://127.0.0.1:9",
            "run": run,
            "attempt": 1,
        }
        if not (folder / "config.json").exists():
            make_work_folder(folder, main, token=f"{run}-token", **keys)
        config = load_config(folder / "config.json")
        limits = changes.pop("limits", Limits(stop_grace_s=5.0))
        grant = LeaseGrant(run, 1, 7, run, 0.0, 60.0, f"{run}-token", limits=limits)
        stop = self.stops[run] = StopRequest()
        return self.pool.submit(
            carry_out,
            config,
            uplink=None,
            stop=stop,
            renew=False,
            shared=self.station,
            grant=replace(grant, **changes),
            place=place,
        )

    def begun(self, run: str) -> None:
        """Wait until its program runs."""
        log = self.root / run / "1/outputs/logs/main.log"
        wait_until(lambda: log.exists() and "begun" in log.read_text(), timeout=60.0)

    def until_sent(self, run: str, text: str) -> None:
        """Wait until the server has *text* as its log."""
        wait_until(lambda: self.sent(run, "logs/main.log") == text, timeout=60.0)

    def sent(self, run: str, path: str) -> str:
        """Return what the server has of a file."""
        return self.server.files_of[run].get(path, b"").decode()


@contextmanager
def crowd_in(root: Path) -> Iterator[Crowd]:
    """Give a crowd that works below *root*; whoever is left is cancelled."""
    made = Crowd(root)
    try:
        yield made
    finally:
        for stop in made.stops.values():
            stop.ask("cancelled")
        made.pool.shutdown()
        made.station.close()
