"""The watch of many work folders: what is written, made, moved and removed is reported."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.runner.inotify import Inotify
from physicsrunner.runner.tree_watch import TreeWatch
from physicsrunner.runner.workdir import WorkFolder
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no inotify elsewhere")


class Watched:
    """Work folders below a root, and what was reported."""

    def __init__(self, root: Path, poll_s: float = 1.0) -> None:
        self.root = root
        self.guard = threading.Lock()
        self.seen: set[Path] = set()
        self.watch = TreeWatch(root, self._take, coalesce_s=0.0, scan_s=60.0, poll_s=poll_s)

    def _take(self, paths: frozenset[Path]) -> None:
        with self.guard:
            self.seen |= paths

    def folder(self, name: str) -> WorkFolder:
        """Return a new work folder that is watched."""
        made = WorkFolder(self.root / name)
        made.create()
        self.watch.include(made.root)
        return made

    def forget(self) -> None:
        with self.guard:
            self.seen.clear()

    def wait(self, path: Path) -> None:
        """Wait until *path* is reported."""
        wait_until(lambda: path in self.seen, on_timeout=lambda: sorted(self.seen))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    made.watch.start()
    made.wait(tmp_path)  # everything, at the start
    yield made
    made.watch.close()


def test_what_is_written_is_reported(watched: Watched) -> None:
    """In any followed folder of any work folder; what is not followed is not."""
    first, second = watched.folder("a b"), watched.folder("c/1")
    (first.inputs / "x").write_text("1")
    (first.control / "x").write_text("1")
    (first.outputs / "state.txt").write_text("1")
    (second.outputs / "logs" / "main.log").write_text("1")
    (second.metadata / "x").write_text("1")
    watched.wait(first.outputs / "state.txt")
    watched.wait(second.outputs / "logs" / "main.log")
    watched.wait(second.metadata / "x")
    assert first.inputs / "x" not in watched.seen
    assert first.control / "x" not in watched.seen


def test_folders_that_come_later_are_watched(watched: Watched) -> None:
    """New ones, those below them, and those that were moved; under their present names."""
    folder = watched.folder("a")
    deep = folder.outputs / "new" / "deep"
    deep.mkdir(parents=True)
    watched.wait(folder.outputs / "new")
    wait_until(lambda: _reported(watched, deep / "file"))
    (folder.outputs / "new").rename(folder.outputs / "moved")
    watched.wait(folder.outputs / "moved")
    watched.forget()
    wait_until(lambda: _reported(watched, folder.outputs / "moved" / "deep" / "file"))
    assert deep / "file" not in watched.seen


def _reported(watched: Watched, path: Path) -> bool:
    """Write to *path*; say whether a report of it has come."""
    with path.open("a") as file:
        file.write("x")
    return path in watched.seen


def test_what_is_excluded_is_no_more_reported(watched: Watched) -> None:
    """Its watches are given back; a folder that is removed altogether is nothing special."""
    gone, stays = watched.folder("gone"), watched.folder("stays")
    watched.watch.exclude(gone.root)
    watched.watch.exclude(gone.root)
    (gone.outputs / "x").write_text("1")
    (stays.outputs / "x").write_text("1")
    watched.wait(stays.outputs / "x")
    assert gone.outputs / "x" not in watched.seen


def test_lost_events_are_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel's queue was full, everything is looked at, and watched again."""
    from physicsrunner.runner import inotify

    watched = Watched(tmp_path)
    folder = watched.folder("a")
    lost = [inotify.Event(-1, inotify.OVERFLOW, b"")]
    read = Inotify.read
    monkeypatch.setattr(Inotify, "read", lambda self: [*read(self), *(lost and [lost.pop()])])
    watched.watch.start()
    try:
        (folder.outputs / "x").write_text("1")
        wait_until(lambda: watched.watch.overflowed == 1)
        watched.wait(tmp_path)
        wait_until(lambda: _reported(watched, folder.outputs / "y"))
    finally:
        watched.watch.close()


def test_without_a_watch_left_it_looks_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's limit costs latency, nothing else."""

    def none_left(self: Inotify, folder: str) -> int:
        del self, folder
        raise OSError(28, "no space")

    monkeypatch.setattr(Inotify, "watch", none_left)
    watched = Watched(tmp_path, poll_s=0.02)
    watched.watch.start()
    try:
        watched.wait(tmp_path)
        watched.folder("a")
        watched.forget()
        watched.wait(tmp_path)
    finally:
        watched.watch.close()
