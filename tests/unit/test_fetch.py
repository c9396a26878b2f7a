"""Fetching files: whole and verified, or not there; and the cache of inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from physicsrunner.errors import DigestMismatch, ServerUnavailable, StorageFull
from physicsrunner.runner.cache import InputCache
from physicsrunner.runner.fetch import Patience, Stopped, fetch_file

DATA = bytes(range(256)) * 40
SHA = hashlib.sha256(DATA).hexdigest()


class Line:
    """A server whose answers end after *cuts* bytes, one after the other."""

    def __init__(self, data: bytes, cuts: list[int | None]) -> None:
        self.data = data
        self.cuts = cuts
        self.offsets: list[int] = []

    @contextmanager
    def fetch(self, url: str, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        assert url == "url"
        self.offsets.append(offset)
        cut = self.cuts.pop(0) if self.cuts else None
        if cut == 0:
            raise ServerUnavailable("refused")
        yield self._pieces(offset, cut)

    def _pieces(self, offset: int, cut: int | None) -> Iterator[bytes]:
        end = len(self.data) if cut is None else min(len(self.data), offset + cut)
        for start in range(offset, end, 100):
            yield self.data[start : min(start + 100, end)]
        if cut is not None:
            raise ServerUnavailable("cut")


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.stopped = False

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def patience(self, seconds: float = 60.0) -> Patience:
        return Patience(
            now=lambda: self.time,
            sleep=self.sleep,
            random=lambda: 0.5,
            stopped=lambda: self.stopped,
            patience_s=seconds,
        )


def fetch(line: Line, folder: Path, clock: Time, size: int | None = len(DATA)) -> str:
    """Fetch into *folder*."""
    return fetch_file(
        line,
        "url",
        folder / "target",
        part=folder / "target.part",
        size=size,
        sha256=SHA if size is not None else None,
        patience=clock.patience(),
    )


def test_a_line_that_is_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    """Only missing bytes are asked for."""
    line = Line(DATA, [3000, 0, 2000, None])
    assert fetch(line, tmp_path, Time()) == SHA
    assert (tmp_path / "target").read_bytes() == DATA
    assert line.offsets == [0, 3000, 3000, 5000]
    assert not (tmp_path / "target.part").exists()


def test_a_part_of_an_earlier_process_is_gone_on_with(tmp_path: Path) -> None:
    """A runner that was killed had not fetched in vain."""
    (tmp_path / "target.part").write_bytes(DATA[:1234])
    line = Line(DATA, [])
    fetch(line, tmp_path, Time())
    assert line.offsets == [1234]


def test_a_wrong_part_is_fetched_anew(tmp_path: Path) -> None:
    """What does not verify is thrown away, once."""
    (tmp_path / "target.part").write_bytes(b"\xff" * 1234)
    line = Line(DATA, [])
    fetch(line, tmp_path, Time())
    assert line.offsets == [1234, 0]
    assert (tmp_path / "target").read_bytes() == DATA


def test_what_never_verifies_never_appears(tmp_path: Path) -> None:
    """A file with another digest is refused."""
    with pytest.raises(DigestMismatch, match="SHA-256"):
        fetch(Line(b"\0" * len(DATA), []), tmp_path, Time())
    assert list(tmp_path.iterdir()) == []


def test_without_size_and_digest_the_whole_answer_is_taken(tmp_path: Path) -> None:
    """As on the PhysicsWorks wire; a cut is still not an end."""
    line = Line(DATA, [3000, None])
    fetch(line, tmp_path, Time(), size=None)
    assert (tmp_path / "target").read_bytes() == DATA


def test_patience_ends_and_a_stop_is_heard(tmp_path: Path) -> None:
    """A server that never answers is given up, a stop at once."""
    clock = Time()
    with pytest.raises(ServerUnavailable):
        fetch(Line(DATA, [0] * 1000), tmp_path, clock)
    assert 30 < clock.time <= 60
    clock.stopped = True
    with pytest.raises(Stopped):
        fetch(Line(DATA, []), tmp_path, clock)


def test_an_empty_file_arrives(tmp_path: Path) -> None:
    """Zero bytes are a file too."""
    empty = hashlib.sha256(b"").hexdigest()
    fetch_file(
        Line(b"", []),
        "url",
        tmp_path / "empty",
        part=tmp_path / "part",
        size=0,
        sha256=empty,
        patience=Time().patience(),
    )
    assert (tmp_path / "empty").read_bytes() == b""


def cache_with(folder: Path, *contents: bytes, limit: int = 10_000) -> InputCache:
    """Return a cache that was given *contents*, a second apart."""
    times = iter(range(1000))
    cache = InputCache(folder / "cache", limit=limit, now=lambda: float(next(times)))
    for data in contents:
        source = folder / "source"
        source.write_bytes(data)
        cache.put(hashlib.sha256(data).hexdigest(), source)
    return cache


def test_the_cache_gives_what_it_was_given(tmp_path: Path) -> None:
    """By content; and nothing for what it does not have."""
    cache = cache_with(tmp_path, b"mesh")
    assert cache.get(hashlib.sha256(b"mesh").hexdigest(), 4, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mesh"
    assert not cache.get(SHA, len(DATA), tmp_path / "none")


def test_a_spoilt_file_is_never_handed_out(tmp_path: Path) -> None:
    """A cached file that somebody wrote to is dropped."""
    cache = cache_with(tmp_path, b"mesh")
    digest = hashlib.sha256(b"mesh").hexdigest()
    cached = tmp_path / "cache" / digest[:2] / digest
    with cached.open("r+b") as file:
        file.write(b"MESH")
    assert not cache.get(digest, 4, tmp_path / "out")
    assert not cached.exists()


def test_the_cache_stays_below_its_limit(tmp_path: Path) -> None:
    """The file used longest ago goes first."""
    contents = [bytes([n]) * 400 for n in range(3)]
    digests = [hashlib.sha256(data).hexdigest() for data in contents]
    cache = cache_with(tmp_path, *contents[:2], limit=1000)
    assert cache.get(digests[0], 400, tmp_path / "out")
    source = tmp_path / "source"
    source.write_bytes(contents[2])
    cache.put(digests[2], source)
    have = [cache.get(digest, 400, tmp_path / "out") for digest in digests]
    assert have == [True, False, True]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """The run goes on without it."""
    (tmp_path / "cache").write_text("a file")
    cache = cache_with(tmp_path, b"mesh")
    assert not cache.get(hashlib.sha256(b"mesh").hexdigest(), 4, tmp_path / "out")
    assert os.path.isfile(tmp_path / "cache")  # noqa: PTH113


def test_a_file_is_found_whole_and_marked_by_whoever_looks_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many attempts begin with one model: who looks just when it appears does not drop it."""
    source = tmp_path / "source"
    source.write_bytes(DATA)
    cache = InputCache(tmp_path / "cache", now=lambda: 1.0)
    found: list[bool] = []
    replace = Path.replace

    def seen(self: Path, target: Path) -> Path:
        there = replace(self, target)
        if not found:
            found.append(False)  # what follows places a file itself
            found[0] = cache.get(SHA, len(DATA), tmp_path / "target")
        return there

    monkeypatch.setattr(Path, "replace", seen)
    cache.put(SHA, source)
    assert found == [True]
    assert cache.find(SHA, len(DATA)) is not None


def test_an_archive_that_vanishes_while_it_is_unpacked_is_a_miss(tmp_path: Path) -> None:
    """It is fetched then; one that is there and cannot be unpacked is an error."""
    source = tmp_path / "source"
    source.write_bytes(DATA)
    cache = InputCache(tmp_path / "cache", now=lambda: 1.0)
    cache.put(SHA, source)

    def full(archive: Path, target: Path) -> None:
        raise StorageFull(f"cannot unpack {archive} into {target}")

    def vanishing(archive: Path, target: Path) -> None:
        archive.unlink()
        full(archive, target)

    with pytest.raises(StorageFull):
        cache.unpack(SHA, len(DATA), tmp_path / "target", full)
    assert not cache.unpack(SHA, len(DATA), tmp_path / "target", vanishing)
