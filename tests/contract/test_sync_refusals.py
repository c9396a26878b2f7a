"""A server that refuses something for good: the sync says so and ends, and asks in moderation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from physicsrunner.client.uplink import Outgoing, Uplink
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.messages import SyncResult
from tests.contract.model_server import ModelServer
from tests.contract.test_sync_model import RUN, Clock

MOST = 60  # requests, for a handful of files


class TooMany(AssertionError):
    """The sync asks without end."""


@dataclass
class Refusing(ModelServer):
    """Answers operations of one kind (on sealed files, or all) with one error."""

    refuses: dict[str, str] = field(default_factory=dict)
    sealed_only: bool = False
    asked: int = 0

    def _carry_out(self, item: Outgoing, *, cut: bool) -> SyncResult:
        self.asked += 1
        if self.asked > MOST:
            raise TooMany
        op = item.op
        error = self.refuses.get(op.op)
        file = self._spool(op.run, op.attempt).get(op.path)
        if error is None or (self.sealed_only and (file is None or file.sealed is None)):
            return super()._carry_out(item, cut=cut)
        return SyncResult(len(file.data) if file else 0, error=error, detail=f"{op.path}: no")


class Bench:
    def __init__(self, root: Path) -> None:
        self.folder = WorkFolder(root)
        self.folder.create()
        self.clock = Clock()
        self.server = Refusing()
        self.restart()

    def restart(self) -> None:
        uplink = cast("Uplink", self.server)
        self.sync = Sync(uplink, now=self.clock, random=lambda: 0.5, wait=self.clock.wait)
        self.sync.add(Followed(RUN, 1, self.folder))

    def look(self) -> None:
        self.clock.wait(6.0)
        self.sync.touch([self.folder.root])
        self.sync.step()

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder.outputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "work")


@pytest.mark.parametrize("error", ["already_published", "conflict", "not_allowed"])
def test_a_removal_that_is_refused_ends(bench: Bench, error: str) -> None:
    """A file that the server keeps although it is gone here holds up nothing."""
    bench.write("a", b"one")
    path = bench.write("b", b"two")
    assert bench.sync.finish(RUN, 1, timeout=60).delivered
    bench.server.refuses = {"remove": error}
    path.unlink()
    bench.look()
    bench.write("c", b"three")
    delivery = bench.sync.finish(RUN, 1, timeout=60)
    assert delivery.delivered, delivery
    assert set(bench.server.content(RUN, 1)) == {"outputs/a", "outputs/b", "outputs/c"}


def test_a_stranger_that_cannot_be_removed_ends(bench: Bench) -> None:
    """What an earlier runner left unsealed, and the server keeps, holds up nothing either."""
    path = bench.write("b", b"two")
    bench.look()
    path.unlink()
    bench.write("a", b"one")
    bench.restart()
    bench.server.refuses = {"remove": "conflict"}
    delivery = bench.sync.finish(RUN, 1, timeout=60)
    assert delivery.delivered, delivery


def test_a_rename_that_is_refused_is_sent_anew(bench: Bench) -> None:
    """Where the server cannot rename, the file goes under its new name like any other."""
    path = bench.write("old", b"content" * 1000)
    bench.look()
    bench.server.refuses = {"rename": "path_conflict"}
    path.rename(path.with_name("new"))
    bench.look()
    delivery = bench.sync.finish(RUN, 1, timeout=60)
    assert delivery.delivered, delivery
    assert bench.server.content(RUN, 1) == {"outputs/new": b"content" * 1000}


def test_a_published_file_that_changes_is_said_at_once(bench: Bench) -> None:
    """A change that the server will never take is tried once and named; the others are sent."""
    bench.write("a", b"one")
    assert bench.sync.finish(RUN, 1, timeout=60).delivered
    refused = dict.fromkeys(
        ("append", "write", "truncate", "remove", "rename"), "already_published"
    )
    bench.server.refuses, bench.server.sealed_only = refused, True
    bench.write("a", b"other")
    bench.write("b", b"new")
    bench.look()
    before = bench.clock.time
    delivery = bench.sync.finish(RUN, 1, timeout=600)
    assert (delivery.delivered, delivery.pending) == (False, ("outputs/a",))
    assert "no" in (delivery.error or "")
    assert bench.clock.time - before < 5
    assert bench.server.content(RUN, 1) == {"outputs/a": b"one", "outputs/b": b"new"}


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_never_stops_growing_ends(bench: Bench, size: int) -> None:
    """Something that goes on writing after main.py holds the delivery up until the deadline."""
    log = bench.write("logs/daemon.log", b"x" * size)
    bench.write("u", b"result")
    before = bench.server.send

    def send(batch: Sequence[Outgoing]) -> list[SyncResult]:
        bench.server.asked = 0
        bench.clock.time += 0.2
        results = before(batch)
        with log.open("ab") as file:
            file.write(b"more")
        if bench.clock.time > 4e9 + 1000:
            pytest.fail("the delivery goes on and on")
        return results

    bench.server.send = send  # type: ignore[method-assign]
    delivery = bench.sync.finish(RUN, 1, timeout=20.0)
    assert bench.clock.time < 4e9 + 60
    if delivery.delivered:
        assert bench.server.content(RUN, 1)["outputs/u"] == b"result"
        assert bench.server.unsealed(RUN, 1) == []
        assert [name for name, _ in delivery.skipped] == ["outputs/logs/daemon.log"]
    else:
        assert "outputs/logs/daemon.log" in delivery.pending


def test_hashing_a_very_large_file_is_waited_for(bench: Bench) -> None:
    """A file of which the hash alone takes longer than the deadline is delivered all the same."""
    bench.look()
    book = bench.sync._books[RUN, 1]
    book.busy = book.hashing = 1
    book.deadline = bench.clock.time + 180
    ready = bench.clock.time + 600

    def wait(seconds: float) -> None:
        bench.clock.wait(max(seconds, 5.0))
        if bench.clock.time >= ready:
            book.busy = book.hashing = 0

    bench.sync._wait = wait
    assert bench.sync._until_settled(book)
    assert bench.clock.time >= ready
