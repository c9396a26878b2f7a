"""A full disk, on either side: the run says so, and nothing that was written is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.disk import SmallDisk
from tests.support.processes import Processes, ServerProcess
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

MB = 1_000_000

#: 30 MB that do not compress, in files of 1 MB.
THIRTY = """
for number in range(30):
    (files / f"part {number:02}.bin").write_bytes(os.urandom(1_000_000))
    print("wrote", number, flush=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Give small disks; they are taken away with the test."""
    disks: list[SmallDisk] = []

    def make(megabytes: int) -> SmallDisk:
        disk = SmallDisk(tmp_path / f"disk{len(disks)}", megabytes)
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        disk.close()


def test_the_servers_disk_is_full_until_there_is_room(
    processes: Processes, small_disk: Callable[[int], SmallDisk], tmp_path: Path
) -> None:
    """The runner waits and tries again; when there is room it completes, all by itself."""
    disk = small_disk(16)
    server = processes.server(disk.folder / "data")
    voyage = Voyage(processes, server, tmp_path / "work", THIRTY)
    runner = voyage.start()
    voyage.await_noted(runner, "outcome")
    log = voyage.work / "debug" / "runner.log"
    later = voyage.work / ".physicsrunner" / "runner-late.log"

    def complained() -> bool:
        text = "".join(p.read_text() for p in (log, later) if p.exists())
        return "disk is full" in text

    wait_until(complained, timeout=60, on_timeout=runner.story)
    assert runner.alive, runner.story()
    assert server.alive
    disk.resize(200)
    assert runner.wait(120) == 0, runner.story()
    voyage.whole("outputs/data_files/part 29.bin")


def test_the_servers_disk_stays_full(
    processes: Processes, small_disk: Callable[[int], SmallDisk], tmp_path: Path
) -> None:
    """The run ends with 0 and says how to deliver it; after room was made, sync does."""
    disk = small_disk(16)
    server = processes.server(disk.folder / "data")
    voyage = Voyage(processes, server, tmp_path / "work", THIRTY, deliverTimeout=3)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    assert "physicsrunner sync" in runner.output()
    assert voyage.missing()
    disk.resize(200)
    voyage.sync()
    voyage.whole("outputs/data_files/part 29.bin")


def test_the_servers_disk_is_full_from_the_start(
    processes: Processes, small_disk: Callable[[int], SmallDisk], tmp_path: Path
) -> None:
    """A server without a byte of room loses nobody's run: it is delivered afterwards."""
    disk = small_disk(16)
    server = processes.server(disk.folder / "data")
    filler = disk.folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    voyage = Voyage(processes, server, tmp_path / "work", THIRTY, deliverTimeout=2)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    assert "physicsrunner sync" in runner.output()
    filler.unlink()
    disk.resize(200)
    voyage.sync("--host", server.url)
    voyage.whole("outputs/data_files/part 29.bin")


def test_the_runners_disk_is_full(
    processes: Processes, server: ServerProcess, small_disk: Callable[[int], SmallDisk]
) -> None:
    """main.py fails for want of room; what it could write is delivered, now or after a restart."""
    disk = small_disk(12)
    voyage = Voyage(processes, server, disk.folder / "work", THIRTY)
    runner = voyage.start()
    code = runner.wait(120)
    assert code in (1, 8), runner.story()
    if not voyage.noted("delivered"):
        assert "physicsrunner" in runner.output() or "room" in runner.output()
        disk.resize(100)
        again = voyage.start()
        assert again.wait(120) == 1, again.story()
    voyage.whole("outputs/data_files/part 00.bin", status="failed")
    assert voyage.document()["exit_code"] == 1


def test_a_program_that_may_not_write_more(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A limit on the size of files (as a quota has) fails main.py; all up to there is kept."""
    main = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    with (files / "limited.bin").open("wb", buffering=0) as limited:
        while True:
            limited.write(os.urandom(150_000))
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait(120) == 1, runner.story()
    voyage.whole("outputs/data_files/limited.bin", status="failed")
    size = (voyage.work / "outputs" / "files" / "limited.bin").stat().st_size
    assert size == 2 * MB
