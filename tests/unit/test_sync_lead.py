"""Who waits for the end of an attempt sends what is ready (`runner.sync`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from physicsrunner.client.uplink import ALL_OPERATIONS, Outgoing, Uplink
from physicsrunner.errors import ServerUnavailable
from physicsrunner.runner.result import Delivery, LastWords
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.messages import Report, ReportAnswer, StoredFile, SyncResult
from tests.support.wait import wait_until


class Server:
    """Takes everything; says by which thread each frame came, and of which runs it was."""

    operations = ALL_OPERATIONS

    def __init__(self) -> None:
        self.frames: list[tuple[str, set[str]]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.failures = 0

    def files(self, run: str, attempt: int) -> Mapping[str, StoredFile]:
        del run, attempt
        return {}

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        self.frames.append((threading.current_thread().name, {item.op.run for item in batch}))
        assert self.may_answer.wait(30)
        if self.failures:
            self.failures -= 1
            raise ServerUnavailable("not now")
        ends = [item.op.size or (item.op.offset or 0) + (item.op.length or 0) for item in batch]
        return [SyncResult(end, sealed=True) for end in ends]


class Listener(Server):
    """Hears last words with a frame, unless it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = True
        self.heard: list[str] = []
        self.refuses = False

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        results = super().send(batch)
        if self.refuses:
            self.refuses = False
            return [replace(result, error="digest_mismatch", sealed=False) for result in results]
        return results

    def send_with(
        self, batch: Sequence[Outgoing], reports: Sequence[Report]
    ) -> tuple[Sequence[SyncResult], Sequence[ReportAnswer | None]]:
        results = self.send(batch)
        if not self.hears or any(result.error for result in results):
            return results, [None for _ in reports]
        self.heard += [report.run for report in reports]
        return results, [ReportAnswer(report.run, report.attempt) for report in reports]


class Bench:
    """One sync, and attempts that have ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = Listener()
        self.words: dict[str, LastWords] = {}
        self.sync = Sync(cast("Uplink", self.server))
        self.delivered: dict[str, Delivery] = {}
        self._threads: list[threading.Thread] = []

    def ended(self, run: str, timeout: float | None = None, size: int = 3) -> None:
        """Have a thread named *run* finish the attempt of that name."""
        folder = WorkFolder(self.root / run)
        folder.create()
        (folder.outputs / "a.txt").write_text("a" * size)
        words = self.words[run] = LastWords(lambda: [Report(run, 1, exit_code=0)])
        self.sync.add(Followed(run, 1, folder, fresh=True), look=False)

        def finish() -> None:
            self.delivered[run] = self.sync.finish(run, 1, timeout=timeout, words=words)

        thread = threading.Thread(target=finish, name=run)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.sync.start()
    yield bench
    bench.server.may_answer.set()
    bench.join()
    bench.sync.close()


def test_who_waits_sends(bench: Bench) -> None:
    """A short attempt goes in one frame, and wakes nobody."""
    bench.ended("one", timeout=180.0)
    bench.join()
    assert bench.delivered["one"].delivered
    assert bench.server.frames == [("one", {"one"})]


def test_those_that_end_meanwhile_go_together(bench: Bench) -> None:
    """While one frame is on its way, the next one fills."""
    bench.server.may_answer.clear()
    bench.ended("one")
    wait_until(lambda: bench.server.frames, timeout=30)
    for run in ("two", "three", "four"):
        bench.ended(run)
    wait_until(lambda: len(bench.sync._waiting) == 3, timeout=30)
    bench.server.may_answer.set()
    bench.join()
    assert all(delivery.delivered for delivery in bench.delivered.values())
    assert [runs for _, runs in bench.server.frames] == [{"one"}, {"two", "three", "four"}]
    assert {name for name, _ in bench.server.frames} <= {"one", "two", "three", "four"}


def test_a_near_deadline_is_not_risked(bench: Bench) -> None:
    """A request may take longer than there is time: another thread makes it then."""
    bench.server.may_answer.clear()
    bench.ended("hurried", timeout=0.2)
    bench.join()
    assert not bench.delivered["hurried"].delivered
    wait_until(lambda: bench.server.frames)  # also where it came to that too late
    assert bench.server.frames == [("sync-live", {"hurried"})]


def test_what_fails_is_tried_again(bench: Bench) -> None:
    """The thread that waits hands over what has to wait for its time."""
    bench.server.failures = 2
    bench.ended("one")
    bench.ended("two")
    bench.join()
    assert all(delivery.delivered for delivery in bench.delivered.values())


def test_closing_waits_for_the_frame(bench: Bench) -> None:
    """A frame that is on its way is waited for, whoever sends it."""
    bench.server.may_answer.clear()
    bench.ended("one")
    wait_until(lambda: bench.server.frames, timeout=30)
    closer = threading.Thread(target=bench.sync.close, name="closer")
    closer.start()
    closer.join(0.1)
    assert closer.is_alive()
    bench.server.may_answer.set()
    closer.join(30)
    assert not closer.is_alive()


def test_last_words_go_with_the_last_files(bench: Bench) -> None:
    """One request for all files of an attempt and its end."""
    bench.ended("one")
    bench.join()
    assert bench.server.heard == ["one"]
    assert [answer.run for answer in bench.words["one"].answers] == ["one"]
    assert len(bench.server.frames) == 1


def test_words_of_several_attempts_are_told_apart(bench: Bench) -> None:
    """Each hears the answer to its own."""
    bench.server.may_answer.clear()
    bench.ended("one")
    wait_until(lambda: bench.server.frames, timeout=30)
    for run in ("two", "three"):
        bench.ended(run)
    wait_until(lambda: len(bench.sync._waiting) == 2, timeout=30)
    bench.server.may_answer.set()
    bench.join()
    for run, words in bench.words.items():
        assert [answer.run for answer in words.answers] == [run]


def test_words_that_are_not_heard_are_left(bench: Bench) -> None:
    """An older server takes the files alone."""
    bench.server.hears = False
    bench.ended("one")
    bench.join()
    assert bench.delivered["one"].delivered
    assert not bench.words["one"].answers


def test_words_wait_until_the_files_are_sealed(bench: Bench) -> None:
    """A frame of which something is refused ends nothing; the next one does."""
    bench.server.refuses = True
    bench.ended("one")
    bench.join()
    assert bench.delivered["one"].delivered
    assert bench.server.heard == ["one"]
    assert len(bench.server.frames) == 2


def test_an_attempt_with_large_files_reports_by_itself(bench: Bench) -> None:
    """Until these are sent its progress is told, which last words would end."""
    bench.ended("one", size=2 << 20)
    bench.join()
    assert bench.delivered["one"].delivered
    assert not bench.server.heard
