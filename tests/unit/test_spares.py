"""Emptied folders are given again only when they are what fresh ones are, and nobody is in them."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from physicsrunner.agent.adopt import unfinished
from physicsrunner.agent.spares import Spares
from physicsrunner.engines.holders import held_below
from physicsrunner.engines.processes import ProcessId, own_id
from physicsrunner.runner.workdir import WorkFolder
from tests.support.wait import wait_until

TOGETHER = 8  # trees that are looked at together


class Place:
    """An agent's folder with spares, and attempts that are over."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.held: set[str] | None = set()
        self.asked: list[ProcessId] = []
        self.spares = Spares(str(work), self._held)
        self.spares.start()

    def _held(self, place: str, since: ProcessId) -> set[str] | None:
        assert place == str(self.work / ".spare")
        self.asked.append(since)
        return self.held

    def attempt(self, run: str) -> Path:
        """Make the folder of an attempt that has been carried out."""
        root = self.work / run / "1"
        root.mkdir(parents=True, mode=0o700)
        folder = WorkFolder(root)
        folder.create()
        folder.control.chmod(0o700)
        (folder.control / "program").mkdir()
        (folder.control / "program" / "pid").write_text(f"{own_id()}\n")
        (root / "config.json").write_text("{}")
        (folder.outputs / "deep" / "er").mkdir(parents=True)
        (folder.outputs / "deep" / "er" / "result.txt").write_text("secret")
        (folder.inputs / "link").symlink_to(self.work)
        return root

    def keep(self, number: int, spoil: Callable[[Path], object] | None = None) -> None:
        """Have *number* attempts kept, each spoilt before."""
        for _ in range(number):
            root = self.attempt(f"old{len(list(self.work.iterdir()))}-{os.urandom(4).hex()}")
            if spoil is not None:
                spoil(root)
            assert self.spares.keep(str(root))
            assert not root.exists()

    def given(self, run: str) -> Path | None:
        """Return the folder that was given to *run*."""
        root = self.work / run / "1"
        return root if self.spares.give(str(root)) else None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a place of its own."""
    return Place(tmp_path)


def shape(root: Path) -> dict[str, int]:
    """Return all that is below *root*, with the modes."""
    found = {str(path.relative_to(root)): path.lstat().st_mode for path in root.rglob("*")}
    return {**found, "": root.lstat().st_mode}


def test_a_spare_is_like_a_fresh_tree(place: Place, tmp_path: Path) -> None:
    """Nothing of the former attempt is left: no file, no link, no folder of its own."""
    fresh = place.attempt("fresh")
    for name in ("config.json", "inputs/link", ".physicsrunner/program/pid"):
        (fresh / name).unlink()
    shutil.rmtree(fresh / "outputs" / "deep")
    place.keep(TOGETHER)
    roots = [place.given(f"new{number}") for number in range(TOGETHER)]
    for root in roots:
        assert root is not None
        assert shape(root) == shape(fresh)
    assert place.given("more") is None
    assert not (tmp_path / "more" / "1").exists()


def test_processes_are_looked_at_for_many_at_once(place: Place) -> None:
    """A few spares wait for others: one look is enough for all, from the oldest program on."""
    place.keep(TOGETHER - 1)
    assert place.given("new") is None
    assert place.asked == []
    place.keep(1)
    assert place.given("new") is not None
    assert place.given("other") is not None
    assert place.asked == [own_id()]


@pytest.mark.parametrize("held", [None, {str(number) for number in range(TOGETHER)}])
def test_what_somebody_is_in_is_never_given(place: Place, held: set[str] | None) -> None:
    """A tree in which a process may be left, or of which nobody can say, is removed."""
    place.keep(TOGETHER)
    place.held = held
    assert place.given("new") is None
    assert list((place.work / ".spare").iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "outputs").chmod(0o777),
        lambda root: (root / ".physicsrunner").chmod(0o755),
        lambda root: root.chmod(0o755),
        lambda root: (root / "debug").rmdir(),
        lambda root: ((root / "raw").rmdir(), (root / "raw").symlink_to(root.parent.parent)),
        lambda root: ((root / "raw").rmdir(), (root / "raw").write_text("a file")),
    ],
)
def test_a_tree_that_was_changed_is_never_given(
    place: Place, spoil: Callable[[Path], object]
) -> None:
    """Other modes, folders that are missing, links and files in their place: it is removed."""
    place.keep(TOGETHER, spoil)
    assert place.given("new") is None
    assert list((place.work / ".spare").iterdir()) == []


def test_what_was_written_after_it_was_emptied_is_never_given(place: Place) -> None:
    """A late file spoils its own tree and no other."""
    place.keep(TOGETHER)
    (place.work / ".spare" / "3" / "outputs" / "late.txt").write_text("late")
    roots = [place.given(f"new{number}") for number in range(TOGETHER)]
    assert sum(root is not None for root in roots) == TOGETHER - 1
    assert not list(place.work.rglob("late.txt"))


def again(place: Place, spoil: Callable[[Path], object]) -> list[Path | None]:
    """Give all folders that were kept, keep them again spoilt, and give them once more."""
    place.keep(TOGETHER)
    wait_until(lambda: settled(place.work / ".spare"))
    (place.work / ".spare" / "now").mkdir()
    (place.work / ".spare" / "now").rmdir()
    roots = [place.given(f"new{number}") for number in range(TOGETHER)]
    for root in roots:
        assert root is not None
        (root / ".physicsrunner" / "program" / "pid").write_text(f"{own_id()}\n")
        spoil(root)
        assert place.spares.keep(str(root))
    return [place.given(f"newer{number}") for number in range(TOGETHER)]


def settled(folder: Path) -> bool:
    """Say whether nothing was changed in *folder* for more than some ticks of a clock."""
    return folder.lstat().st_mtime_ns + 60_000_000 < time.time_ns()


def spoilt_in_secret(root: Path) -> None:
    """Leave a file in a folder whose times then say that nobody was there."""
    before = (root / "outputs" / "plots").stat()
    (root / "outputs" / "plots" / "left.txt").write_text("secret")
    os.utime(root / "outputs" / "plots", ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("spoil", [spoilt_in_secret, lambda root: (root / "inputs/a").touch()])
def test_a_spare_is_used_again_and_again(place: Place, spoil: Callable[[Path], object]) -> None:
    """What the second attempt in a folder left is gone for the third, whatever the times say."""
    fresh = place.attempt("fresh")
    for name in ("config.json", "inputs/link", ".physicsrunner/program/pid"):
        (fresh / name).unlink()
    shutil.rmtree(fresh / "outputs" / "deep")
    for root in again(place, spoil):
        assert root is not None
        assert shape(root) == shape(fresh)


def test_the_rights_of_a_folder_that_was_not_written_to_are_looked_at(place: Place) -> None:
    """A second attempt may have changed them alone."""
    assert again(place, lambda root: (root / "raw").chmod(0o777)) == [None] * TOGETHER


def test_folders_that_nobody_touched_are_not_listed_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most folders of a short run are as they were when they were given."""
    listed: list[str] = []
    real = os.listdir

    def listdir(path: str) -> list[str]:
        listed.append(str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert None not in again(place, lambda root: (root / "inputs/a").touch())
    for folder, looks in (("inputs", 2), ("outputs/media", 1), ("raw", 1)):
        assert sum(path.endswith(f"/{folder}") for path in listed) == looks * TOGETHER


def test_a_folder_that_is_there_stays_as_it_is(place: Place) -> None:
    """An attempt that was begun before is gone on with in its own folder."""
    there = place.attempt("old")
    before = shape(there)
    place.keep(TOGETHER)
    assert place.given("old") is None
    assert shape(there) == before


def test_an_attempt_whose_program_is_not_known_is_not_kept(place: Place) -> None:
    """Without its program nobody could say who has come from it."""
    root = place.attempt("old")
    (root / ".physicsrunner" / "program" / "pid").write_text("torn")
    before = shape(root)
    assert not place.spares.keep(str(root))
    assert shape(root) == before


def test_spares_are_no_attempts_and_go_with_their_process(place: Place) -> None:
    """The next start removes what a kill left; nothing of it is taken up."""
    place.keep(2)
    (place.work / ".spare" / "1").mkdir(exist_ok=True)
    (place.work / ".spare" / "1" / "config.json").write_text("{}")
    assert list(unfinished(place.work, logging.getLogger("test"))) == []
    later = Spares(str(place.work))
    later.start()
    assert list((place.work / ".spare").iterdir()) == []
    later.close()
    assert not (place.work / ".spare").exists()
    assert not later.keep(str(place.attempt("old")))


def test_there_are_not_more_than_are_of_use(place: Place) -> None:
    """A thousand runs that ended together leave some folders, not a thousand."""
    for number in range(70):
        root = place.attempt(f"old{number}")
        place.spares.keep(str(root))
    assert len(list((place.work / ".spare").iterdir())) == 64


CODE = "import sys; file = open('f', 'w') if sys.argv[1] else None; print(1, flush=1); input()"


@pytest.mark.parametrize("opened", [True, False])
def test_a_process_that_left_its_group_is_found_where_it_is(tmp_path: Path, opened: bool) -> None:
    """Neither a session of its own nor an empty environment hides who is in a folder."""
    (tmp_path / "3" / "outputs").mkdir(parents=True)
    left = subprocess.Popen(
        [sys.executable, "-c", CODE, "1" if opened else ""],
        cwd=tmp_path / "3" / "outputs",
        env={},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert left.stdout is not None
        assert left.stdout.readline()
        held = held_below(str(tmp_path), own_id())
        # None where the machine has young processes of others, of which nobody can say.
        assert held is None or held == {"3"}
    finally:
        left.communicate()
    wait_until(lambda: held_below(str(tmp_path), own_id()) in (None, set()))
