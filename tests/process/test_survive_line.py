"""A bad line: slow, cut, reset, lost answers, 503, half-open, away. Everything arrives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Processes, ServerProcess
from tests.support.proxy import Fault, FaultProxy
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

Proxies = Callable[[int], FaultProxy]

#: Large and small, appended and written at once, with pauses between.
MIXED = """
with (outputs / "logs" / "solver.log").open("w") as log, (files / "grown.bin").open("wb") as grown:
    for step in range(30):
        print("iteration", step, file=log, flush=True)
        grown.write(os.urandom(100_000))
        grown.flush()
        (files / f"field {step:03}.bin").write_bytes(os.urandom(30_000))
        if step == 10:
            tell("third")
        time.sleep(0.02)
(files / "last.bin").write_bytes(os.urandom(3_000_000))
"""
EXPECTED = (
    "logs/solver.log",
    "outputs/data_files/grown.bin",
    "outputs/data_files/last.bin",
    "outputs/data_files/field 029.bin",
)


@pytest.fixture
def server(shared_server: ServerProcess) -> ServerProcess:
    """One server for all tests of this file: each looks at runs of its own alone."""
    return shared_server


def _voyage(
    processes: Processes, server: ServerProcess, proxy: FaultProxy, folder: Path, **config: Any
) -> Voyage:
    return Voyage(processes, server, folder / "work", MIXED, url=proxy.url, **config)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("unavailable"),
        Fault("unavailable", retry_after=1),
        Fault("reset", after=0),
        Fault("reset", after=40_000),
        Fault("cut", after=1),
        Fault("cut", after=100_000),
        Fault("lost_answer"),
        Fault("stall", after=20_000, seconds=0.5),
    ],
    ids=lambda f: f"{f.kind}-{f.after}-{f.retry_after}",
)
def test_every_second_frame_meets_a_fault(
    fault: Fault,
    processes: Processes,
    server: ServerProcess,
    proxy_for: Proxies,
    tmp_path: Path,
) -> None:
    """Whatever happens to every second frame, all bytes arrive, once and in order."""
    proxy = proxy_for(server.port)
    seen = [0]

    def every_second(request: str) -> Fault | None:
        if not request.startswith("POST /api/v1/sync"):
            return None
        seen[0] += 1
        return fault if seen[0] % 2 else None

    proxy.choose = every_second
    voyage = _voyage(processes, server, proxy, tmp_path)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    assert proxy.injected[fault.kind] >= 2
    voyage.whole(*EXPECTED)


@pytest.mark.parametrize("kind", ["unavailable", "reset", "lost_answer"])
def test_every_other_request_meets_a_fault_too(
    kind: str,
    processes: Processes,
    server: ServerProcess,
    proxy_for: Proxies,
    tmp_path: Path,
) -> None:
    """Creating, leasing, asking for offsets, renewing and reporting survive the same faults."""
    proxy = proxy_for(server.port)
    met: set[str] = set()

    def once_each(request: str) -> Fault | None:
        name = re.sub(r"[0-9a-f-]{36}|\?.*", "*", request)
        if name in met:
            return None
        met.add(name)
        return Fault(kind)

    proxy.choose = once_each
    voyage = _voyage(processes, server, proxy, tmp_path)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    assert proxy.injected[kind] >= 4, met
    voyage.whole(*EXPECTED)


def test_a_slow_line(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """On a line far slower than main.py everything arrives, after main.py has ended."""
    proxy = proxy_for(server.port)
    proxy.rate = 1.5e6
    voyage = _voyage(processes, server, proxy, tmp_path)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    voyage.whole(*EXPECTED)


def test_the_server_is_away_in_mid_upload(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """For some seconds every connection is refused; then the upload goes on where it was."""
    proxy = proxy_for(server.port)
    voyage = _voyage(processes, server, proxy, tmp_path)
    runner = voyage.start()
    voyage.await_told(runner, "third")
    proxy.refusing = True
    proxy.reset_all()
    wait_until(
        lambda: proxy.injected["refused"] >= 5, timeout=60, on_timeout="the runner gave up trying"
    )
    proxy.refusing = False
    assert runner.wait(120) == 0, runner.story()
    voyage.whole(*EXPECTED)


def test_a_dead_line_that_nobody_closes(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """Connections that stay open and carry nothing are given up in time, and made anew."""
    proxy = proxy_for(server.port)
    voyage = _voyage(processes, server, proxy, tmp_path)
    runner = voyage.start()
    voyage.await_told(runner, "third")
    proxy.silent = True
    voyage.await_noted(runner, "outcome")
    proxy.silent = False
    proxy.reset_all()
    assert runner.wait(120) == 0, runner.story()
    voyage.whole(*EXPECTED)


def test_nobody_there_until_later(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """Without an answer the run goes on, exits 0, says how to deliver, and is delivered whole."""
    proxy = proxy_for(server.port)
    proxy.refusing = True
    voyage = _voyage(processes, server, proxy, tmp_path, deliverTimeout=1)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    assert "physicsrunner sync" in runner.output()
    assert voyage.document() == {}

    voyage.sync("--host", server.url)
    voyage.whole(*EXPECTED)
    # Again is no harm: everything is there.
    voyage.sync("--host", server.url)
    voyage.whole(*EXPECTED)


def test_given_up_in_the_last_upload_is_delivered_later(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """The server goes away for good in mid-upload: the rest waits here, and sync brings it."""
    proxy = proxy_for(server.port)
    voyage = _voyage(processes, server, proxy, tmp_path, deliverTimeout=1)
    runner = voyage.start()
    voyage.await_told(runner, "third")
    proxy.refusing = True
    proxy.reset_all()
    assert runner.wait(120) == 0, runner.story()
    assert "physicsrunner sync" in runner.output()
    assert voyage.missing()

    proxy.refusing = False
    voyage.sync()
    voyage.whole(*EXPECTED)
