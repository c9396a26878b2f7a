"""Watching a folder: hints in time, scans as the truth."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.runner import watch
from physicsrunner.runner.watch import FolderWatch, is_network
from tests.support.wait import wait_until


class Heard:
    """What a watch reported."""

    def __init__(self) -> None:
        self.calls: list[frozenset[Path]] = []
        self.lock = threading.Lock()

    def __call__(self, paths: frozenset[Path]) -> None:
        with self.lock:
            self.calls.append(paths)

    @property
    def paths(self) -> set[Path]:
        with self.lock:
            return set().union(*self.calls) if self.calls else set()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watched(tmp_path: Path, heard: Heard) -> Iterator[FolderWatch]:
    folder_watch = FolderWatch(tmp_path, heard, scan_s=3600.0)
    folder_watch.start()
    yield folder_watch
    folder_watch.close()


def test_everything_first(watched: FolderWatch, heard: Heard, tmp_path: Path) -> None:
    """The first report says: look at everything."""
    wait_until(lambda: heard.calls)
    assert tmp_path in heard.calls[0]


def test_changes(watched: FolderWatch, heard: Heard, tmp_path: Path) -> None:
    """Files that are made, written, moved and deleted are named, in new folders too."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    name = deep / "with space, é, \N{PARTY POPPER} and\nnewline"
    name.write_text("1")
    wait_until(lambda: name in heard.paths)
    moved = tmp_path / "moved"
    name.rename(moved)
    wait_until(lambda: moved in heard.paths)
    heard.calls.clear()
    moved.unlink()
    wait_until(lambda: moved in heard.paths)


def test_name_that_is_not_unicode(watched: FolderWatch, heard: Heard, tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is named in Python's way."""
    path = tmp_path / "caf\udce9.txt"
    path.write_text("1")
    wait_until(lambda: path in heard.paths)


def test_reading_is_no_change(watched: FolderWatch, heard: Heard, tmp_path: Path) -> None:
    """Opening and reading files is not reported."""
    path = tmp_path / "file"
    path.write_text("1")
    wait_until(lambda: path in heard.paths)
    marker = tmp_path / "marker"
    marker.write_text("2")
    wait_until(lambda: marker in heard.paths)
    heard.calls.clear()
    for _ in range(50):
        path.read_text()
    (tmp_path / "later").write_text("3")
    wait_until(lambda: tmp_path / "later" in heard.paths)
    assert path not in heard.paths


def test_burst_is_joined(watched: FolderWatch, heard: Heard, tmp_path: Path) -> None:
    """2,000 files at once are all named, in far fewer reports."""
    wait_until(lambda: heard.calls)
    expected = {tmp_path / f"file{index}" for index in range(2000)}
    for path in expected:
        path.write_bytes(b"x")
    wait_until(lambda: expected <= heard.paths, on_timeout=lambda: len(heard.paths))
    assert len(heard.calls) < 500


def test_scans_come_again(tmp_path: Path, heard: Heard) -> None:
    """The whole folder is reported again and again, events or not."""
    folder_watch = FolderWatch(tmp_path, heard, scan_s=0.03)
    folder_watch.start()
    try:
        wait_until(lambda: sum(tmp_path in call for call in list(heard.calls)) > 3)
    finally:
        folder_watch.close()


def test_events_that_may_be_lost(tmp_path: Path, heard: Heard) -> None:
    """More events than the kernel's queue safely holds end in a look at everything."""
    folder_watch = FolderWatch(tmp_path, heard, scan_s=3600.0, coalesce_s=0.2)
    folder_watch.start()
    try:
        wait_until(lambda: heard.calls)
        heard.calls.clear()
        for index in range(watch.BURST + 2):
            folder_watch._touch(f"{tmp_path}/{index}")
        wait_until(lambda: tmp_path in heard.paths)
        assert folder_watch.overflowed >= 1
    finally:
        folder_watch.close()


def test_no_inotify_left(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the kernel gives no events the folder is looked at all the time, and that is said."""

    class Refused:
        def __init__(self) -> None:
            raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(watch, "Observer", Refused)
    folder_watch = FolderWatch(tmp_path, heard, poll_s=0.03)
    folder_watch.start()
    try:
        assert folder_watch.polling
        wait_until(lambda: len(heard.calls) > 3)
        assert "inotify instance limit" in caplog.text
    finally:
        folder_watch.close()


def test_a_listener_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A report that fails does not end the reports."""
    calls: list[int] = []

    def fails(paths: frozenset[Path]) -> None:
        calls.append(len(paths))
        raise RuntimeError("no")

    folder_watch = FolderWatch(tmp_path, fails, scan_s=0.02)
    folder_watch.start()
    try:
        wait_until(lambda: len(calls) > 2)
    finally:
        folder_watch.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/local/runs", False),
        ("/home/anna/runs", True),
        ("/home/annabel", False),
        ("/mnt/my share/x", True),
        ("/mnt/sshfs/x", True),
        ("/mnt/overlay", False),
    ],
)
def test_network_file_systems(tmp_path: Path, path: str, expected: bool) -> None:
    """The longest mount point decides; its spaces are escaped in the kernel's list."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\nserver:/x /home/anna nfs4 rw 0 0\n"
        "//s/x /mnt/my\\040share cifs rw 0 0\nme@host: /mnt/sshfs fuse.sshfs rw 0 0\n"
        "none /mnt/overlay fuse.fuse-overlayfs rw 0 0\nbad line\n"
    )
    assert is_network(Path(path), mounts) is expected


def test_no_list_of_mounts(tmp_path: Path) -> None:
    """Where the kernel has no list, the folder counts as local."""
    assert not is_network(tmp_path, tmp_path / "missing")


_IN_HASTE = """
import pathlib, sys, threading
from physicsrunner.runner.watch import FolderWatch
root = pathlib.Path(sys.argv[1])
ended = threading.Event()
def busy():
    number = 0
    while not ended.is_set() and number < 500:
        folder = root / f"{number % 50}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
        number += 1
thread = threading.Thread(target=busy)
thread.start()
for _ in range(8):
    watch = FolderWatch(root, lambda paths: None)
    watch.start()
    watch.close()
ended.set()
thread.join()
"""


def test_a_short_watch_is_silent(tmp_path: Path) -> None:
    """Closed at once, among folders that appear: nothing reaches the user's standard error."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_HASTE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
