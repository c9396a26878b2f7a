"""The sync against a model server: any history of the disk and the line ends with equal bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import cast

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.paths import artifact_path
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.workdir import WorkFolder
from tests.contract.model_server import ModelServer
from tests.support.examples import examples

RUN = "3f2b8c1e-0000-4000-8000-000000000001"
NAMES = ("outputs/logs/main.log", "outputs/files/u.dat", "outputs/plots/a b.csv", "outputs/x")
FOLDERS = ("outputs/x", "outputs/plots/a b.csv")  # names that are a file now and a folder then
INSIDE = ("outputs/x/1", "outputs/x/deep/2")
# Around what the sync treats differently: prints (4 KiB), whole (64 KiB), small (1 MiB).
SIZES = st.sampled_from([0, 1, 7, 4095, 4096, 9000, 65536, 70000, 200_000, 1_048_577, 1_300_000])
FAULTS = st.sampled_from(["away", "lost", 0, 1, 2])


class Clock:
    """A wall clock that tests move on; it starts after every file's time stamp."""

    def __init__(self) -> None:
        self.time = 4e9

    def __call__(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += max(seconds, 0.05)


def pattern(seed: int, size: int) -> bytes:
    """Bytes that differ between seeds, also in the middle."""
    return (b"%08d|" % seed * (size // 9 + 1))[:size]


class SyncMachine(RuleBasedStateMachine):
    """A main.py that does anything to its files, a line that does anything to frames."""

    def __init__(self) -> None:
        super().__init__()
        self.temp = tempfile.TemporaryDirectory()
        self.folder = WorkFolder(Path(self.temp.name))
        self.folder.create()
        self.faults: list[str | int] = []
        self.seed = 0
        self.sealed_before: set[str] = set()
        self.clock = Clock()
        self.server = ModelServer()
        self.sync: Sync | None = None

    def teardown(self) -> None:
        try:
            if self.sync is not None:
                self.check_delivery()
        finally:
            self.temp.cleanup()

    @initialize(
        operations=st.sampled_from(
            [
                ModelServer.operations,
                frozenset({"append", "seal"}),
                frozenset({"append", "seal", "remove"}),
            ]
        )
    )
    def begin(self, operations: frozenset[str]) -> None:
        self.server = ModelServer(
            operations=operations,
            fault=lambda _: self.faults.pop(0) if self.faults else None,
        )
        self.restart()

    def data(self, size: int) -> bytes:
        self.seed += 1
        return pattern(self.seed, size)

    def path(self, name: str) -> Path:
        return self.folder.root / name

    def writable(self, name: str) -> Path | None:
        path = self.path(name)
        if path.is_dir() or path.parent.is_file():
            return None
        for parent in path.relative_to(self.folder.root).parents:
            if self.path(str(parent)).is_file():
                return None
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # -- main.py ---------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES + INSIDE), size=SIZES)
    def append(self, name: str, size: int) -> None:
        path = self.writable(name)
        if path is not None:
            with path.open("ab") as file:
                file.write(self.data(size))

    @rule(name=st.sampled_from(NAMES + INSIDE), size=SIZES)
    def write_again(self, name: str, size: int) -> None:
        path = self.writable(name)
        if path is not None:
            path.write_bytes(self.data(size))

    @rule(name=st.sampled_from(NAMES), where=st.floats(0, 1), size=st.sampled_from([1, 5000]))
    def change_in_place(self, name: str, where: float, size: int) -> None:
        path = self.path(name)
        if path.is_file():
            with path.open("r+b") as file:
                file.seek(int(where * path.stat().st_size))
                file.write(self.data(size))

    @rule(name=st.sampled_from(NAMES), part=st.floats(0, 1))
    def truncate(self, name: str, part: float) -> None:
        path = self.path(name)
        if path.is_file():
            os.truncate(path, int(part * path.stat().st_size))

    @rule(name=st.sampled_from(NAMES), size=SIZES)
    def replace(self, name: str, size: int) -> None:
        """The careful way: a new file under another name, then renamed."""
        path = self.writable(name)
        if path is not None:
            other = path.with_name("new.tmp")
            other.write_bytes(self.data(size))
            other.replace(path)

    @rule(old=st.sampled_from(NAMES + INSIDE), new=st.sampled_from(NAMES + INSIDE))
    def rename(self, old: str, new: str) -> None:
        path = self.path(old)
        if path.is_file():
            to = self.writable(new)
            if to is not None:
                path.replace(to)

    @rule(one=st.sampled_from(NAMES), two=st.sampled_from(NAMES))
    def exchange(self, one: str, two: str) -> None:
        first, second = self.path(one), self.path(two)
        if first.is_file() and second.is_file() and first != second:
            aside = self.path("outputs/aside")
            first.replace(aside)
            second.replace(first)
            aside.replace(second)

    @rule(name=st.sampled_from(NAMES + INSIDE))
    def delete(self, name: str) -> None:
        path = self.path(name)
        if path.is_file():
            path.unlink()

    @rule(name=st.sampled_from(FOLDERS))
    def make_folder(self, name: str) -> None:
        path = self.path(name)
        if path.is_file():
            path.unlink()
        path.mkdir(exist_ok=True)

    @rule(name=st.sampled_from(FOLDERS))
    def delete_folder(self, name: str) -> None:
        path = self.path(name)
        if path.is_dir():
            for file in sorted(path.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            path.rmdir()

    # -- the runner and the line -----------------------------------------------------------------

    @rule()
    def look(self) -> None:
        """Events and a scan arrive; as much is sent as can be."""
        assert self.sync is not None
        self.clock.wait(6.0)
        self.sync.touch([self.folder.root])
        self.sync.step()

    @rule(name=st.sampled_from(NAMES))
    def hint(self, name: str) -> None:
        """One event alone arrives."""
        assert self.sync is not None
        self.clock.wait(0.02)
        self.sync.touch([self.path(name)])
        self.sync.step()

    @rule(fault=FAULTS)
    def break_line(self, fault: str | int) -> None:
        self.faults.append(fault)

    @rule()
    def restart(self) -> None:
        """The runner is killed and started again."""
        uplink = cast("Uplink", self.server)  # the part of it that a sync uses
        self.sync = Sync(uplink, now=self.clock, random=lambda: 0.5, wait=self.clock.wait)
        self.sync.add(Followed(RUN, 1, self.folder))
        stored = self.server.content(RUN, 1)
        self.sealed_before |= set(stored) - set(self.server.unsealed(RUN, 1))

    @rule()
    def finish(self) -> None:
        self.check_delivery()

    @invariant()
    def nothing_is_left_in_flight(self) -> None:
        if self.sync is not None:
            for book in self.sync._books.values():
                assert book.busy == 0

    def check_delivery(self) -> None:
        assert self.sync is not None
        delivery = self.sync.finish(RUN, 1, timeout=600.0)
        assert delivery.delivered, delivery
        disk = {
            artifact_path(self.folder.relative(path)): path.read_bytes()
            for path in self.folder.outputs.rglob("*")
            if path.is_file()
        }
        stored = self.server.content(RUN, 1)
        gone = set(stored) - set(disk)
        if "remove" in self.server.operations:
            assert self.server.unsealed(RUN, 1) == []
            # Sealed, and deleted while no runner looked: kept, as after a tidied work folder.
            assert gone <= self.sealed_before
        stored = {path: data for path, data in stored.items() if path not in gone}
        assert {path: len(data) for path, data in stored.items()} == {
            path: len(data) for path, data in disk.items()
        }
        assert stored == disk
        assert delivery.files == len(disk)


SyncMachine.TestCase.settings = settings(
    max_examples=examples(60),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSyncMachine = SyncMachine.TestCase
