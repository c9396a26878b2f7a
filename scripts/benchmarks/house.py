"""What the benchmarks of the agent share: `physicsrunner up` with a number of slots."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import transfer
from tests.support.processes import LISTENING, Processes
from tests.support.wait import wait_until

from physicsrunner.client.client import Client


@dataclass(frozen=True)
class House:
    """A server, and the agent that it started."""

    client: Client
    server: int  #: pid
    agent: int  #: pid
    place: Path


@contextlib.contextmanager
def up(slots: int) -> Iterator[House]:
    """Give `physicsrunner up` on fresh data, with an agent of *slots* that waits for work."""
    with transfer.workplace() as place:
        processes = Processes(place)
        try:
            arguments = ["--data", str(place / "data"), "--port", "0", "--slots", str(slots)]
            started = processes.python("up", *arguments, "--no-login", name="up")

            def line() -> re.Match[bytes] | None:
                if not started.alive:
                    raise SystemExit(started.story())
                return LISTENING.search(started.log.read_bytes())

            found = wait_until(line, timeout=60.0, on_timeout=started.story)
            assert found is not None
            token = (place / "data" / "admin.token").read_text().strip()
            with Client(found[1].decode(), token) as client:
                agent = wait_until(lambda: _child(started.pid), on_timeout=started.story)
                wait_until(lambda: _active(client, slots), timeout=60.0, on_timeout=started.story)
                assert agent is not None
                yield House(client, started.pid, agent, place)
        finally:
            processes.close()


def _active(client: Client, slots: int) -> bool:
    return any(
        agent.get("slots") == slots and agent.get("state") == "active" for agent in client.agents()
    )


def _child(pid: int) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_bytes()
                if int(fields[1]) == pid and b"physicsrunner.agent" in line:
                    return int(entry.name)
    return None


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return the memory that a process has now, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ended(client: Client, count: int, timeout: float) -> dict[str, int]:
    """
    Wait until *count* runs have ended; return how many are in which state.

    It asks seldom while many are left: what is measured must not be the measuring.
    """
    deadline = time.monotonic() + timeout
    while True:
        counts: dict[str, int] = client.queue()["counts"]
        over = sum(counts.get(name, 0) for name in ("completed", "failed", "cancelled", "timeout"))
        if over >= count or time.monotonic() > deadline:
            return counts
        time.sleep(0.02 if count - over < 20 else 0.25)
