"""The sync against a real server, over a line and from a disk that misbehave."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from physicsrunner.client.native import NativeUplink
from physicsrunner.core.paths import artifact_path
from physicsrunner.core.retry import Backoff
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.watch import FolderWatch
from physicsrunner.runner.workdir import WorkFolder
from tests.support.attempts import Claimed, claim
from tests.support.processes import ServerProcess
from tests.support.proxy import Fault, FaultProxy
from tests.support.wait import wait_until

MIB = 1 << 20


class Line:
    """A work folder whose files go to a server through a proxy."""

    def __init__(self, server: ServerProcess, proxy: FaultProxy, root: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.claimed: Claimed = claim(server)
        self.folder = WorkFolder(root)
        self.folder.create()
        self.uplink = NativeUplink(proxy.url, self.claimed.token)
        self.sync = Sync(self.uplink, backoff=Backoff(base=0.05, cap=0.5))
        self.sync.add(Followed(self.claimed.run, 1, self.folder))
        self.watch: FolderWatch | None = None
        self.sync.start()

    def follow(self) -> None:
        """Watch the work folder."""
        self.watch = FolderWatch(self.folder.root, self.sync.touch)
        self.watch.start()

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
        self.sync.close()
        self.uplink.close()

    def finish(self, timeout: float = 60.0) -> None:
        """Deliver everything; both sides must be equal, and all of it sealed."""
        delivery = self.sync.finish(self.claimed.run, 1, timeout=timeout)
        assert delivery.delivered, delivery
        assert self.stored() == self.disk()
        listed = self.uplink.files(self.claimed.run, 1)
        assert set(listed) == set(self.disk())
        assert [file.path for file in listed.values() if not file.sealed] == []

    def disk(self) -> dict[str, bytes]:
        return {
            artifact_path(self.folder.relative(path)): path.read_bytes()
            for path in self.folder.outputs.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def stored(self) -> dict[str, bytes]:
        top = self.server.attempt_folder(self.claimed.run)
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in top.rglob("*")
            if path.is_file()
        }

    def stored_size(self, path: str) -> int:
        local = self.server.attempt_folder(self.claimed.run) / path
        return local.stat().st_size if local.exists() else 0

    def has(self, path: str, size: int) -> bool:
        return self.stored_size(path) >= size


@pytest.fixture
def line(
    server: ServerProcess, proxy_for: Callable[[int], FaultProxy], tmp_path: Path
) -> Iterator[Line]:
    made = Line(server, proxy_for(server.port), tmp_path / "work")
    yield made
    made.close()


def noise(size: int) -> bytes:
    return os.urandom(size)


def test_server_killed_in_mid_upload(line: Line) -> None:
    """A server that is killed while a file comes in gets only the rest when it is back."""
    size = 48 * MIB
    (line.folder.outputs / "files" / "big.dat").write_bytes(noise(size))
    line.proxy.rate = 24.0 * MIB
    line.sync.touch([line.folder.root])
    wait_until(lambda: line.stored_size("outputs/data_files/big.dat") > 8 * MIB, timeout=60)
    line.server.kill()
    line.proxy.rate = None
    line.server.restart()
    stored = line.stored_size("outputs/data_files/big.dat")
    assert stored > 8 * MIB
    before = line.proxy.forwarded
    line.finish()
    assert line.proxy.forwarded - before < size - stored + 4 * MIB


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", after=100_000),
        Fault("cut", after=300_000),
        Fault("unavailable", retry_after=0.2),
        Fault("lost_answer"),
        Fault("stall", after=50_000, seconds=0.3),
    ],
    ids=lambda fault: fault.kind,
)
def test_faulty_line(line: Line, fault: Fault) -> None:
    """Whatever happens to frames, many times: both sides are equal in the end."""
    outputs = line.folder.outputs
    line.proxy.inject(fault, times=6, match="POST /api/v1/sync")
    line.proxy.inject(Fault("unavailable"), times=1, match="GET .*/files")
    line.follow()
    log = outputs / "logs" / "main.log"
    for index in range(40):
        with log.open("ab") as file:
            file.write(b"Time = %d\n" % index * 500)
        (outputs / "plots" / f"{index}.csv").write_bytes(noise(3000))
    (outputs / "files" / "u.dat").write_bytes(noise(5 * MIB))
    line.finish()
    wait_until(lambda: line.proxy.injected[fault.kind] >= 1)


def test_burst_that_ends_with_exit(line: Line) -> None:
    """10,000 files written in one burst all arrive, although nobody waited for events."""
    line.follow()
    for index in range(10_000):
        (line.folder.outputs / "media" / f"{index:05}.txt").write_bytes(b"frame %d" % index)
    line.finish()


def test_names(line: Line) -> None:
    """Spaces, quotes, emoji, newlines and bytes that are no text are good names."""
    names = [
        "with space",
        'it\'s "quoted"',
        "\N{PARTY POPPER}",
        "new\nline",
        "caf\udce9",
        "100%",
        "back\\slash",
        "-rf",
        "é",
        "e\N{COMBINING ACUTE ACCENT}",
        "x" * 255,
    ]
    for name in names:
        (line.folder.outputs / "files" / name).write_text(name, errors="surrogateescape")
    line.follow()
    line.finish()
    assert len(line.disk()) == len(names)


def test_files_that_change_while_they_are_sent(line: Line) -> None:
    """A file that shrinks, one that is replaced and one that is deleted while they are sent."""
    files = line.folder.outputs / "files"
    for name in ("shrinks", "replaced", "deleted", "rewritten"):
        (files / name).write_bytes(noise(6 * MIB))
    line.proxy.rate = 8.0 * MIB
    line.follow()
    wait_until(lambda: line.proxy.forwarded > 2 * MIB, timeout=30)
    os.truncate(files / "shrinks", 1 * MIB)
    (files / "new").write_bytes(noise(3 * MIB))
    (files / "new").replace(files / "replaced")
    (files / "deleted").unlink()
    with (files / "rewritten").open("r+b") as file:
        file.seek(3 * MIB)
        file.write(noise(10_000))
    line.proxy.rate = None
    line.finish()


def test_rename_sends_no_byte_twice(line: Line) -> None:
    """A renamed file is renamed on the server; so is a log that is rotated."""
    files, logs = line.folder.outputs / "files", line.folder.outputs / "logs"
    (files / "u.dat.tmp").write_bytes(noise(4 * MIB))
    (logs / "main.log").write_bytes(b"first\n" * 100_000)
    line.follow()
    for path in ("outputs/data_files/u.dat.tmp", "logs/main.log"):
        wait_until(partial(line.has, path, 600_000))
    wait_until(lambda: line.sync.status(line.claimed.run, 1).pending == 0)
    before = line.proxy.forwarded
    (files / "u.dat.tmp").rename(files / "u.dat")
    (logs / "main.log").rename(logs / "main.log.1")
    (logs / "main.log").write_bytes(b"second\n")
    wait_until(lambda: line.stored_size("outputs/data_files/u.dat"))
    line.finish()
    assert line.proxy.forwarded - before < 100_000


def test_only_changed_blocks_travel(line: Line) -> None:
    """Of a large file that is changed in place only the changed blocks are sent."""
    path = line.folder.outputs / "files" / "field.h5"
    path.write_bytes(noise(16 * MIB))
    line.follow()
    wait_until(lambda: line.stored_size("outputs/data_files/field.h5") == 16 * MIB)
    wait_until(lambda: line.sync.status(line.claimed.run, 1).pending == 0)
    before = line.proxy.forwarded
    with path.open("r+b") as file:
        file.write(b"new head")
        file.seek(9 * MIB)
        file.write(b"new middle")
        file.seek(0, os.SEEK_END)
        file.write(noise(1000))
    line.finish()
    assert line.proxy.forwarded - before < 300_000


def test_what_is_not_sent(line: Line, tmp_path: Path) -> None:
    """Links out, sockets and pipes are named and skipped; a link inside is sent as a file."""
    outputs = line.folder.outputs
    (tmp_path / "secret").write_text("not yours")
    (outputs / "out").symlink_to(tmp_path / "secret")
    (outputs / "nowhere").symlink_to(tmp_path / "missing")
    (outputs / "up").symlink_to(line.folder.scripts)
    (outputs / "inside").symlink_to(outputs / "files" / "real")
    (outputs / "files" / "real").write_text("real")
    os.mkfifo(outputs / "pipe")
    folder = os.open(outputs, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as unix:
        # The address of a socket is short; the folder's may not be.
        unix.bind(f"/proc/self/fd/{folder}/socket")
    os.close(folder)
    delivery = line.sync.finish(line.claimed.run, 1, timeout=30.0)
    assert delivery.delivered
    skipped = dict(delivery.skipped)
    assert set(skipped) == {
        f"outputs/{name}" for name in ("out", "nowhere", "up", "pipe", "socket")
    }
    assert line.stored() == {"outputs/inside": b"real", "outputs/data_files/real": b"real"}


def test_file_and_folder_change_places(line: Line) -> None:
    """A file where a folder was, and a folder where a file was."""
    outputs = line.folder.outputs
    (outputs / "one").mkdir()
    (outputs / "one" / "inner").write_text("1")
    (outputs / "two").write_text("2")
    line.follow()
    wait_until(lambda: len(line.stored()) == 2)
    (outputs / "one" / "inner").unlink()
    (outputs / "one").rmdir()
    (outputs / "one").write_text("now a file")
    (outputs / "two").unlink()
    (outputs / "two").mkdir()
    (outputs / "two" / "inner").write_text("now a folder")
    line.finish()


def test_log_passes_a_large_file(line: Line) -> None:
    """A log line does not wait for a large file on a slow line."""
    line.proxy.rate = 1.5 * MIB  # half a minute for the large file
    (line.folder.outputs / "files" / "big.dat").write_bytes(noise(40 * MIB))
    line.follow()
    wait_until(lambda: line.proxy.forwarded > 1 * MIB)
    (line.folder.outputs / "logs" / "main.log").write_text("Time = 1\n")
    wait_until(lambda: line.stored_size("logs/main.log"))
    assert line.stored_size("outputs/data_files/big.dat") < 39 * MIB
    line.proxy.rate = None
    line.finish()


def test_nobody_answers(line: Line) -> None:
    """Without an answer in time nothing is called delivered, and what is left is named."""
    (line.folder.outputs / "x").write_text("x")
    line.proxy.refusing = True
    delivery = line.sync.finish(line.claimed.run, 1, timeout=3.0)
    assert not delivery.delivered
    assert delivery.pending == ("outputs/x",)
    assert delivery.error
    line.proxy.refusing = False
    line.finish()


def test_final_answer(line: Line) -> None:
    """A token that is refused ends the delivery soon, with the server's reason."""
    line.uplink.set_token("nonsense")
    (line.folder.outputs / "x").write_text("x")
    delivery = line.sync.finish(line.claimed.run, 1, timeout=None)
    assert not delivery.delivered
    assert "token" in (delivery.error or "")
    line.uplink.set_token(line.claimed.token)
    line.finish()


def test_many_attempts(
    server: ServerProcess, proxy_for: Callable[[int], FaultProxy], tmp_path: Path
) -> None:
    """One sync serves many attempts at once (an agent's), each under its own folder."""
    uplink = NativeUplink(server.url, server.token)
    sync = Sync(uplink)
    claimed = [claim(server) for _ in range(8)]
    folders = [WorkFolder(tmp_path / one.run) for one in claimed]
    sync.start()
    try:
        for one, folder in zip(claimed, folders, strict=True):
            folder.create()
            sync.add(Followed(one.run, 1, folder))
            for index in range(20):
                (folder.outputs / "files" / str(index)).write_text(f"{one.run} {index}")
        threads = [
            threading.Thread(target=sync.finish, args=(one.run, 1), kwargs={"timeout": 60.0})
            for one in claimed
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in claimed:
            top = server.attempt_folder(one.run) / "outputs" / "data_files"
            assert {path.read_text() for path in top.iterdir()} == {
                f"{one.run} {index}" for index in range(20)
            }
    finally:
        sync.close()
        uplink.close()
