"""Unpacking archives of others: what is unsafe is refused, and nothing of it stays."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from physicsrunner.errors import UnsafeArchive
from physicsrunner.runner.archive import ArchiveLimits, extract


def zip_of(path: Path, **members: bytes) -> Path:
    """Write a zip; ``__`` in a keyword is a slash."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def tar_of(path: Path, *members: tarfile.TarInfo, data: bytes = b"") -> Path:
    """Write a tar.gz of bare members."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    """Return a tar entry."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def evil_zip(name: str, mode: int = 0) -> Callable[[Path], Path]:
    """Return a maker of a zip with one entry."""

    def make(path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr("good.txt", b"good")
            archive.writestr(info, b"/etc/passwd")
        return path

    return make


def evil_tar(*members: tarfile.TarInfo) -> Callable[[Path], Path]:
    """Return a maker of a tar with a good file and these entries."""
    return lambda path: tar_of(path, member("good.txt"), *members)


EVIL = {
    "zip absolute": evil_zip("/etc/cron.d/x"),
    "zip parent": evil_zip("a/../../x"),
    "zip nul": evil_zip("a\0b/../x") if os.name != "posix" else evil_zip("a//b"),
    "zip link": evil_zip("link", 0o120777),
    "zip device": evil_zip("null", 0o020666),
    "tar absolute": evil_tar(member("/etc/cron.d/x")),
    "tar parent": evil_tar(member("../x")),
    "tar link out": evil_tar(member("l", tarfile.SYMTYPE, "../../x")),
    "tar link absolute": evil_tar(member("l", tarfile.SYMTYPE, "/etc/passwd")),
    "tar link chain": evil_tar(
        member("a", tarfile.DIRTYPE),
        member("a/up", tarfile.SYMTYPE, ".."),
        member("b", tarfile.SYMTYPE, "a/up/.."),
    ),
    "tar hard link": evil_tar(member("h", tarfile.LNKTYPE, "good.txt")),
    "tar device": evil_tar(member("null", tarfile.CHRTYPE)),
    "tar fifo": evil_tar(member("pipe", tarfile.FIFOTYPE)),
}


@pytest.mark.parametrize("kind", sorted(EVIL))
def test_what_is_unsafe_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    """The error names the archive; the target and its surroundings are as before."""
    archive = EVIL[kind](tmp_path / "evil.archive")
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    (target / "mine").write_text("mine")
    with pytest.raises(UnsafeArchive, match=r"evil\.archive"):
        extract(archive, target)
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["target"]


@pytest.mark.parametrize(
    "limits",
    [
        ArchiveLimits(size=1000),
        ArchiveLimits(count=1),
        ArchiveLimits(ratio=10, ratio_floor=1000),
    ],
)
def test_a_bomb_is_refused(tmp_path: Path, limits: ArchiveLimits) -> None:
    """Size, count and ratio have limits, counted while unpacking."""
    archive = zip_of(tmp_path / "bomb.zip", a=b"\0" * 100_000, b=b"b")
    with pytest.raises(UnsafeArchive, match=r"bomb\.zip"):
        extract(archive, tmp_path / "target", limits=limits)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, 30, 100, -30])
def test_a_damaged_archive_is_refused(tmp_path: Path, cut: int) -> None:
    """Whatever part is missing, the error is ours."""
    data = zip_of(tmp_path / "a.zip", a=os.urandom(500), b=b"b").read_bytes()
    (tmp_path / "a.zip").write_bytes(data[:cut])
    with pytest.raises(UnsafeArchive, match=r"a\.zip"):
        extract(tmp_path / "a.zip", tmp_path / "target")


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    """A checksum that does not fit is damage."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"hello hello")
    data = (tmp_path / "a.zip").read_bytes().replace(b"hello hello", b"hello jello", 1)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnsafeArchive, match="damaged"):
        extract(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_good_archives_are_unpacked(tmp_path: Path, kind: str) -> None:
    """Files, folders, executable bits and links that stay inside arrive."""
    source = tmp_path / "source"
    (source / "sub dir").mkdir(parents=True)
    (source / "sub dir" / "Übung.txt").write_text("text")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "latest").symlink_to("sub dir/Übung.txt")
    with tarfile.open(tmp_path / "a.tar", kind) as archive:  # type: ignore[call-overload]
        archive.add(source, ".")
    target = tmp_path / "target"
    files = extract(tmp_path / "a.tar", target)
    assert sorted(files) == ["latest", "run.sh", "sub dir/Übung.txt"]
    assert (target / "latest").read_text() == "text"
    assert os.access(target / "run.sh", os.X_OK)


def test_files_are_replaced_and_others_stay(tmp_path: Path) -> None:
    """Unpacking again is success; links that lie in the way are not followed."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "old").write_text("old")
    (target / "sub").symlink_to(outside)
    archive = zip_of(tmp_path / "a.zip", sub__new=b"new", old=b"replaced")
    extract(archive, target)
    extract(archive, target)
    assert list(outside.iterdir()) == []
    assert (target / "sub" / "new").read_bytes() == b"new"
    assert (target / "old").read_bytes() == b"replaced"
