"""One watch for many work folders: who is told what, and that it costs no more with many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from physicsrunner.runner.routes import LONGEST_S, RoutedWatch


class Source:
    """A watch that reports what a test has it report."""

    def __init__(self, root: Path, told: Any) -> None:
        self.root, self.told = root, told
        self.coalesce_s = 0.02
        self.folders: list[Path] = []

    def start(self) -> None:
        """Nothing begins."""

    def close(self) -> None:
        """Nothing ends."""

    def include(self, folder: Path) -> None:
        self.folders.append(folder)

    def exclude(self, folder: Path) -> None:
        self.folders.remove(folder)

    def report(self, *paths: str) -> None:
        self.told(frozenset(Path(path) for path in paths))


class Crowd:
    """Attempts below /runs."""

    def __init__(self, count: int) -> None:
        self.sources: list[Source] = []
        self.time = 0.0
        self.took = 0.0
        self.told: dict[str, list[frozenset[Path]]] = {}
        self.watch = RoutedWatch(Path("/runs"), self._source, now=lambda: self.time)
        for number in range(count):
            self.add(f"/runs/r{number}/1")

    def _source(self, root: Path, told: Any) -> Source:
        self.sources.append(Source(root, told))
        return self.sources[0]

    def add(self, folder: str) -> None:
        def told(paths: frozenset[Path]) -> None:
            self.time += self.took
            self.told.setdefault(folder, []).append(paths)

        self.watch.add(Path(folder), told)

    def report(self, *paths: str) -> dict[str, list[frozenset[Path]]]:
        """Return who is told what of *paths*."""
        self.told = {}
        self.sources[0].report(*paths)
        return self.told


def test_a_new_attempt_looks_at_everything() -> None:
    """What lay there before it was watched is found too."""
    crowd = Crowd(2)
    assert crowd.told == {f"/runs/r{n}/1": [frozenset({Path(f"/runs/r{n}/1")})] for n in (0, 1)}


def test_each_is_told_what_lies_in_its_folder() -> None:
    """Once, however much it is; nobody hears of what lies beside, whatever the names."""
    crowd = Crowd(12)
    told = crowd.report(
        "/runs/r1/1/outputs/a",
        "/runs/r1/1/outputs/b c/d",
        "/runs/r11/1/outputs/a",
        "/runs/r1/2/outputs/a",
        "/runs/r1",
        "/elsewhere/r1/1/outputs/a",
    )
    assert told == {
        "/runs/r1/1": [frozenset({Path("/runs/r1/1/outputs/a"), Path("/runs/r1/1/outputs/b c/d")})],
        "/runs/r11/1": [frozenset({Path("/runs/r11/1/outputs/a")})],
    }


def test_who_is_removed_hears_nothing() -> None:
    """Nor is its folder watched any more; a repeat is nothing."""
    crowd = Crowd(2)
    crowd.watch.remove(Path("/runs/r0/1"))
    crowd.watch.remove(Path("/runs/r0/1"))
    assert crowd.report("/runs/r0/1/outputs/a", "/runs") == {
        "/runs/r1/1": [frozenset({Path("/runs/r1/1")})]
    }
    assert crowd.sources[0].folders == [Path("/runs/r1/1")]


def test_many_take_turns_to_look_at_everything() -> None:
    """A thousand do not look at once, and none is left out."""
    crowd = Crowd(1000)
    looked: set[str] = set()
    for _ in range(4):
        turn = set(crowd.report("/runs"))
        assert len(turn) <= 300
        looked |= turn
    assert len(looked) == 1000


def test_the_pause_grows_with_what_there_is_to_tell() -> None:
    """And shrinks again; few changes are told as soon as ever."""
    crowd = Crowd(3)
    changes = [f"/runs/r{number}/1/outputs/a" for number in range(3)]
    crowd.report(*changes)
    assert crowd.sources[0].coalesce_s == 0.02
    crowd.took = 0.1
    crowd.report(*changes)
    assert crowd.sources[0].coalesce_s == pytest.approx(1.2)
    crowd.took = 10.0
    crowd.report(*changes)
    assert crowd.sources[0].coalesce_s == LONGEST_S
    crowd.took = 0.0
    crowd.watch.least_s = 0.5  # the server asks for it
    crowd.report(*changes)
    assert crowd.sources[0].coalesce_s == 0.5


def test_the_fault_of_one_is_not_the_others() -> None:
    """Whoever raises loses what it was told; all others hear it."""
    crowd = Crowd(0)

    def bad(paths: frozenset[Path]) -> None:
        if paths != frozenset({Path("/runs/bad/1")}):
            raise RuntimeError("not ours")

    crowd.watch.add(Path("/runs/bad/1"), bad)
    crowd.add("/runs/good/1")
    assert "/runs/good/1" in crowd.report("/runs/bad/1/outputs/a", "/runs/good/1/outputs/a")
