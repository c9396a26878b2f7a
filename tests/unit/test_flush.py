"""What a flush of a few files asks of the disk, and folders that are made on the way to a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from physicsrunner.store import flush
from physicsrunner.store.flush import Flusher
from physicsrunner.store.spool import make_folder, put

Flushed = Callable[[], list[str]]


@pytest.fixture
def flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flushed:
    """Give what was flushed since it was last asked, sorted, relative to the spool's root."""
    seen: list[str] = []
    real = os.fsync

    def noting(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a descriptor's
        seen.append(str(name.relative_to(tmp_path)))
        real(descriptor)

    def since() -> list[str]:
        found = sorted(seen)
        seen.clear()
        return found

    monkeypatch.setattr(os, "fsync", noting)
    return since


def _file(root: Path, name: str) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    return str(path)


def test_each_file_and_each_folder_on_its_way_is_flushed_once(
    tmp_path: Path, flushed: Flushed
) -> None:
    """The files' bytes, their names, and the names of all folders that are new."""
    flusher = Flusher(tmp_path)
    files = [_file(tmp_path, name) for name in ("run/1/logs/a", "run/1/logs/b", "run/1/out/x/c")]
    flusher.flush(files)
    folders = [".", "run", "run/1", "run/1/logs", "run/1/out", "run/1/out/x"]
    assert flushed() == sorted(["run/1/logs/a", "run/1/logs/b", "run/1/out/x/c", *folders])


def test_a_folder_whose_name_is_on_the_disk_is_not_named_again(
    tmp_path: Path, flushed: Flushed
) -> None:
    """The second flush needs the folders of its files, and what leads to those that are new."""
    flusher = Flusher(tmp_path)
    flusher.flush([_file(tmp_path, "run/1/logs/a")])
    flushed()
    flusher.flush([_file(tmp_path, "run/1/logs/b")])
    assert flushed() == ["run/1/logs", "run/1/logs/b"]
    flusher.flush([_file(tmp_path, "run/1/out/c")])
    assert flushed() == ["run/1", "run/1/out", "run/1/out/c"]


def test_a_folder_that_was_removed_and_made_again_is_named_again(
    tmp_path: Path, flushed: Flushed
) -> None:
    """A new folder of an old name is a new entry in the folder above it."""
    flusher = Flusher(tmp_path)
    name = _file(tmp_path, "run/1/logs/a")
    flusher.flush([name])
    flushed()
    flusher.forget(Path(name).parent)
    flusher.flush([name])
    assert flushed() == ["run/1", "run/1/logs", "run/1/logs/a"]


def test_many_new_folders_are_flushed_at_once_as_many_files_are(
    tmp_path: Path, flushed: Flushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and folders count alike: two short runs are one flush of all, one run is not."""
    at_once: list[Path] = []
    monkeypatch.setattr(flush, "_SYNCFS", object())
    monkeypatch.setattr(flush, "_syncfs", at_once.append)
    flusher = Flusher(tmp_path)
    names = ("logs/main.log", "metadata/run.json", "metadata/versions.json", "metadata/debug/log")
    files = {run: [_file(tmp_path, f"{run}/attempts/1/{name}") for name in names] for run in "ab"}
    flusher.flush([*files["a"], *files["b"]])
    assert (at_once, flushed()) == ([tmp_path], [])
    flusher.flush(files["a"])
    assert (len(at_once), len(flushed())) == (1, 4 + 7)
    flusher.flush(files["b"])
    assert (len(at_once), len(flushed())) == (1, 4 + 7)
    flusher.flush([*files["a"], *files["b"]])  # the names of their folders are known now
    assert (len(at_once), len(flushed())) == (1, 2 * (4 + 3))


def test_a_flush_that_failed_is_done_again(
    tmp_path: Path, flushed: Flushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders whose flush failed are not remembered as being on the disk."""
    flusher = Flusher(tmp_path)
    name = _file(tmp_path, "run/1/logs/a")
    with monkeypatch.context() as patch:

        def broken(_descriptor: int) -> None:
            raise OSError(errno.EIO, "broken")

        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="broken"):
            flusher.flush([name])
    flusher.flush([name])
    assert flushed() == [".", "run", "run/1", "run/1/logs", "run/1/logs/a"]


def test_folders_are_made_down_to_the_last(tmp_path: Path) -> None:
    """Those that are missing are made, those that are there stay, a file in the way is told."""
    deep = tmp_path / "a" / "b" / "c"
    make_folder(str(deep))
    make_folder(str(deep))
    assert deep.is_dir()
    (deep / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(str(deep / "file"))
    with pytest.raises(NotADirectoryError):
        make_folder(str(deep / "file" / "d"))


def test_what_is_put_is_the_whole_file(tmp_path: Path) -> None:
    """A longer file of that name does not shine through."""
    name = tmp_path / "x"
    put(str(name), b"much longer")
    put(str(name), b"short")
    assert name.read_bytes() == b"short"
