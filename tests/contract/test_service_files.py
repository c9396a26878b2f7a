"""What the spool keeps: offsets, repeats, seals, bad paths, full disks, two at once."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.errors import BadFrame, InvalidRequest, NotFound, ServerUnavailable, UnsafePath
from physicsrunner.service.access import Identity
from physicsrunner.store.spool import Spool
from physicsrunner.wire import live
from physicsrunner.wire.messages import LeaseGrant, Report, StoredFile, SyncOp, SyncResult
from tests.contract.service_house import (
    House,
    append,
    errors,
    open_house,
    seal,
    sha,
    whole,
    write,
)

LOG = "logs/main.log"
DATA = "outputs/data_files/u.vtu"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = open_house(tmp_path)
    yield opened
    opened.services.close()


@pytest.fixture
def held(house: House) -> tuple[LeaseGrant, Identity]:
    return house.claimed()


def op(grant: LeaseGrant, path: str, kind: str, **fields: Any) -> SyncOp:
    return SyncOp(grant.run, grant.attempt, path, kind, **fields)


def local(house: House, grant: LeaseGrant, path: str) -> Path:
    runs = house.services.data / "simulations"
    return runs / grant.run / "attempts" / str(grant.attempt) / path


Held = tuple[LeaseGrant, Identity]


def test_append_and_seal(house: House, held: Held) -> None:
    """Bytes lie under the run's folder as they were sent; sealed, they have their SHA-256."""
    grant, bearer = held

    results = house.sync(bearer, whole(grant, LOG, b"hello\n"), b"hel", b"lo\n")

    assert results == [SyncResult(6), SyncResult(6, sealed=True)]
    assert local(house, grant, LOG).read_bytes() == b"hello\n"
    stored = StoredFile(LOG, 6, sealed=True, sha256=sha(b"hello\n"))
    assert house.services.files.stored(bearer, grant.run, 1) == [stored]
    assert house.services.files.stat(house.admin, grant.run, LOG) == stored
    assert house.services.files.path(house.admin, grant.number, LOG).read_bytes() == b"hello\n"


def test_many_files_of_many_runs_in_one_frame(house: House) -> None:
    """One frame writes to several runs, in any mixture, with an agent's token."""
    for _ in range(2):
        house.services.runs.create(house.admin, _new(house))
    first, second = house.lease("x", max=2)
    ops, body = [], b""
    for place in range(300):
        data = f"file {place}".encode()
        ops += whole((first, second)[place % 2], f"outputs/f/{place}", data)
        body += data
    ops += whole(first, "outputs/empty", b"")
    ops += [seal(second, "outputs/only sealed", b"")]

    results = house.sync(house.agent("x"), ops, *[body[i : i + 7] for i in range(0, len(body), 7)])

    assert errors(results) == [None] * len(ops)
    assert len(house.services.files.list(house.admin, first.run)) == 151
    assert all(file.sealed for file in house.services.files.list(house.admin, second.run))
    seals = [event for event in house.told if event.type == live.SEALED]
    assert [(event.run, event.data["count"]) for event in seals] == [
        (first.run, 151),
        (second.run, 151),
    ]


def test_the_seals_of_a_frame_are_one_transaction_and_no_run_harms_another(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several runs' files are kept at once; where that fails, each run's for itself."""
    for _ in range(3):
        house.services.runs.create(house.admin, _new(house))
    grants = house.lease("x", max=3)
    seals: list[int] = []
    store = house.services._store
    real = store.seal

    def noting(files: Any, *rest: Any, **more: Any) -> None:
        seals.append(len(files))
        if (grants[1].run, 1) in files and refused:
            raise ServerUnavailable("not this one")
        real(files, *rest, **more)

    monkeypatch.setattr(store, "seal", noting)
    refused = False
    ops = [op for grant in grants for op in whole(grant, LOG, b"12")]
    assert errors(house.sync(house.agent("x"), ops, b"12" * 3)) == [None] * 6
    assert seals == [3]
    refused = True
    seals.clear()
    ops = [op for grant in grants for op in whole(grant, DATA, b"12")]
    failed = "unavailable"
    answers = errors(house.sync(house.agent("x"), ops, b"12" * 3))
    assert answers == [None, None, None, failed, None, None]
    assert sorted(seals) == [1, 1, 1, 3]
    for place, grant in enumerate(grants):
        stored = house.services.files.list(house.admin, grant.run)
        assert [file.sealed for file in stored] == [True, place != 1]


def _new(house: House) -> NewRun:
    return NewRun(model_id=house.model())


def test_a_repeated_append_is_success(house: House, held: Held) -> None:
    """After a lost answer the same bytes are sent again: nothing changes, also if sealed."""
    grant, bearer = held
    house.put(bearer, grant, {LOG: b"0123456789"})

    again = house.sync(bearer, whole(grant, LOG, b"0123456789"), b"0123456789")
    part = house.sync(bearer, [append(grant, LOG, 2, 3)], b"234")

    assert again == [SyncResult(10), SyncResult(10, sealed=True)]
    assert part == [SyncResult(10)]
    assert house.services.files.stored(bearer, grant.run, 1)[0].sealed


def test_an_append_that_overlaps_writes_the_rest(house: House, held: Held) -> None:
    """Bytes that are stored already are compared, those behind them are written."""
    grant, bearer = held
    house.sync(bearer, [append(grant, LOG, 0, 4)], b"abcd")

    assert house.sync(bearer, [append(grant, LOG, 2, 5)], b"c", b"dEFG") == [SyncResult(7)]
    assert local(house, grant, LOG).read_bytes() == b"abcdEFG"


def test_an_append_at_the_wrong_offset_changes_nothing(house: House, held: Held) -> None:
    """Other bytes at a stored offset, or a gap: the true offset is the answer."""
    grant, bearer = held
    house.sync(bearer, [append(grant, LOG, 0, 4)], b"abcd")

    results = house.sync(
        bearer,
        [append(grant, LOG, 2, 3), append(grant, LOG, 9, 2), append(grant, "new", 1, 1)],
        b"xxx" + b"yy" + b"z",
    )

    assert [(result.offset, result.error) for result in results] == [
        (4, "offset_mismatch"),
        (4, "offset_mismatch"),
        (0, "offset_mismatch"),
    ]
    assert local(house, grant, LOG).read_bytes() == b"abcd"
    assert not local(house, grant, "new").exists()


def test_a_failing_operation_does_not_harm_the_others(house: House, held: Held) -> None:
    """The bytes of an operation that fails are skipped, exactly."""
    grant, bearer = held
    ops = [
        append(grant, "../out", 0, 5),
        append(grant, "/abs", 0, 3),
        op(grant, "x", "explode"),
        op(grant, "x", "append"),
        op(grant, "x", "seal", size=-1),
        SyncOp(grant.run, 7, "x", "append", offset=0, length=2),
        SyncOp("no-run", 1, "x", "append", offset=0, length=2),
        *whole(grant, LOG, b"good"),
    ]

    results = house.sync(bearer, ops, b"aaaaa" + b"bbb" + b"cc" + b"dd" + b"good")

    assert errors(results) == [
        "unsafe_path",
        "unsafe_path",
        "invalid_request",
        "invalid_request",
        "invalid_request",
        "not_allowed",
        "not_allowed",
        None,
        None,
    ]
    assert not any(result.retryable for result in results)
    assert local(house, grant, LOG).read_bytes() == b"good"


def test_write_truncate_and_seal_again(house: House, held: Held) -> None:
    """Blocks are overwritten, ends cut; each change takes the seal away until it is sealed anew."""
    grant, bearer = held
    house.put(bearer, grant, {DATA: b"aaaabbbbcccc"})

    results = house.sync(
        bearer,
        [write(grant, DATA, 4, 4), write(grant, DATA, 12, 2), write(grant, DATA, 15, 1)],
        b"BBBB" + b"dd" + b"x",
    )
    assert [(result.offset, result.error) for result in results] == [
        (12, None),
        (14, None),
        (14, "offset_mismatch"),
    ]
    assert not house.services.files.stored(bearer, grant.run, 1)[0].sealed

    cut = house.sync(
        bearer,
        [
            op(grant, DATA, "truncate", size=8),
            op(grant, DATA, "truncate", size=9),
            op(grant, DATA, "truncate", size=8),
            op(grant, "none", "truncate", size=0),
            seal(grant, DATA, b"aaaaBBBB"),
        ],
    )
    assert errors(cut) == [None, "offset_mismatch", None, None, None]
    assert house.services.files.stored(bearer, grant.run, 1) == [
        StoredFile(DATA, 8, sealed=True, sha256=sha(b"aaaaBBBB"))
    ]


def test_a_change_of_the_same_size_takes_the_seal_away(house: House, held: Held) -> None:
    """A sealed file whose bytes changed is not sealed, though it is as long as before."""
    grant, bearer = held
    house.put(bearer, grant, {DATA: b"aaaa"})

    results = house.sync(bearer, [write(grant, DATA, 1, 2), seal(grant, DATA, b"aaaa")], b"bb")

    assert errors(results) == [None, "digest_mismatch"]
    assert house.services.files.stored(bearer, grant.run, 1) == [StoredFile(DATA, 4)]
    assert errors(house.sync(bearer, [seal(grant, DATA, b"abba")])) == [None]


def test_a_wrong_digest_or_size_seals_nothing(house: House, held: Held) -> None:
    """A seal is refused with what is stored; blocks then say where the difference is."""
    grant, bearer = held
    house.sync(bearer, [append(grant, DATA, 0, 8192)], b"a" * 4096 + b"b" * 4096)

    results = house.sync(
        bearer,
        [
            seal(grant, DATA, b"a" * 8192),
            seal(grant, DATA, b"a" * 9),
            op(grant, DATA, "seal", size=8192),
        ],
    )

    assert errors(results) == ["digest_mismatch", "offset_mismatch", "digest_mismatch"]
    assert [result.offset for result in results] == [8192] * 3
    blocks = house.services.files.blocks(bearer, grant.run, 1, DATA, 4096)
    assert blocks.hashes == [sha(b"a" * 4096), sha(b"b" * 4096)]
    assert blocks.size == 8192
    assert live.SEALED not in house.types()
    with pytest.raises(NotFound):
        house.services.files.blocks(bearer, grant.run, 1, "none", 4096)
    with pytest.raises(InvalidRequest):
        house.services.files.blocks(bearer, grant.run, 1, DATA, 1)


def test_remove_keeps_what_was_sealed_aside(house: House, held: Held) -> None:
    """A removed file's path is free; its sealed content is kept; a repeat is success."""
    grant, bearer = held
    house.put(bearer, grant, {"a/b/sealed": b"precious"})
    house.sync(bearer, [append(grant, "a/b/open", 0, 1)], b"x")
    remove = [op(grant, "a/b/sealed", "remove"), op(grant, "a/b/open", "remove")]

    assert errors(house.sync(bearer, remove)) == [None, None]
    assert errors(house.sync(bearer, remove)) == [None, None]

    assert house.services.files.stored(bearer, grant.run, 1) == []
    removed = house.services.data / "simulations" / grant.run / "removed" / "1"
    assert [path.read_bytes() for path in removed.iterdir()] == [b"precious"]
    house.put(bearer, grant, {"a": b"a file where the folder was"})


def test_rename_keeps_the_seal(house: House, held: Held) -> None:
    """A renamed file is the same file; what it replaces is kept aside; a repeat is success."""
    grant, bearer = held
    house.put(bearer, grant, {"out/new": b"data", "out/old": b"before"})
    ops = [op(grant, "out/new", "rename", to="out/old")]

    first = house.sync(bearer, ops)
    again = house.sync(bearer, ops)
    bad = house.sync(
        bearer,
        [op(grant, "none", "rename", to="gone"), op(grant, "out/old", "rename", to="../x")],
    )

    assert first == again == [SyncResult(4, sealed=True)]
    assert errors(bad) == ["not_found", "unsafe_path"]
    assert house.services.files.stored(bearer, grant.run, 1) == [
        StoredFile("out/old", 4, sealed=True, sha256=sha(b"data"))
    ]
    removed = house.services.data / "simulations" / grant.run / "removed" / "1"
    assert [path.read_bytes() for path in removed.iterdir()] == [b"before"]


def test_a_growing_file_is_renamed_and_sealed_in_one_frame(house: House, held: Held) -> None:
    """The write-then-rename of careful programs arrives whole."""
    grant, bearer = held
    ops = [append(grant, "out/.tmp", 0, 3), op(grant, "out/.tmp", "rename", to="out/final")]

    results = house.sync(bearer, [*ops, seal(grant, "out/final", b"abc")], b"abc")

    assert errors(results) == [None, None, None]
    assert [file.path for file in house.services.files.list(bearer, grant.run)] == ["out/final"]


def test_sealed_then_removed_in_one_frame_is_not_sealed(house: House, held: Held) -> None:
    """What the same frame changes after the seal is not said to be sealed."""
    grant, bearer = held
    results = house.sync(bearer, [*whole(grant, "f", b"abc"), op(grant, "f", "remove")], b"abc")

    assert errors(results) == [None, None, None]
    assert not results[1].sealed
    assert house.services.files.stored(bearer, grant.run, 1) == []


def test_names_that_people_use(house: House, held: Held) -> None:
    """Spaces, quotes, emoji, newlines and long names are good names."""
    grant, bearer = held
    names = ["a b", 'it\'s "quoted"', "🌊.vtu", "new\nline", "%20", "ü" * 127, "-rf", "a\\b", "*?"]

    house.put(bearer, grant, {f"outputs/{name}": name.encode() for name in names})

    for name in names:
        path = house.services.files.path(house.admin, grant.run, f"outputs/{name}")
        assert path.read_bytes() == name.encode()


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "a/../b", "../x", "/etc/passwd", "a//b", "a/", "./a", "a\0b", "x" * 256,
     "/".join(["d" * 200] * 6), "a/./b", "\ud800"],
)  # fmt: skip
def test_no_path_leaves_its_folder(house: House, held: Held, path: str) -> None:
    """A path that is not plainly inside the folder is refused, for writing and for reading."""
    grant, bearer = held
    ops = [
        append(grant, path, 0, 1),
        op(grant, path, "truncate", size=0),
        seal(grant, path, b""),
        op(grant, path, "remove"),
        op(grant, path, "rename", to="x"),
    ]

    assert errors(house.sync(bearer, ops, b"x")) == ["unsafe_path"] * 5
    with pytest.raises(UnsafePath):
        house.services.files.path(house.admin, grant.run, path)
    with pytest.raises(UnsafePath):
        house.services.files.blocks(house.admin, grant.run, 1, path, 4096)


def test_a_link_in_the_spool_is_never_followed(house: House, held: Held, tmp_path: Path) -> None:
    """Should somebody put a link there, nothing is written or read through it."""
    grant, bearer = held
    house.put(bearer, grant, {"outputs/x": b"x"})
    secret = tmp_path / "secret"
    secret.write_text("secret")
    local(house, grant, "outputs/link").symlink_to(secret)

    results = house.sync(bearer, [append(grant, "outputs/link", 0, 3)], b"bad")

    assert errors(results) == ["path_conflict"]
    assert secret.read_text() == "secret"
    with pytest.raises(NotFound):
        house.services.files.path(house.admin, grant.run, "outputs/link")
    assert [file.path for file in house.services.files.list(bearer, grant.run)] == ["outputs/x"]


def test_a_file_where_a_folder_is_needed_and_the_reverse(house: House, held: Held) -> None:
    """Both are answered by their own error, and harm nothing."""
    grant, bearer = held
    house.put(bearer, grant, {"a": b"file", "d/f": b"in folder"})
    ops = [
        append(grant, "a/b", 0, 1),
        append(grant, "d", 0, 1),
        seal(grant, "a/c", b""),
        op(grant, "a", "rename", to="d"),
        op(grant, "d", "remove"),
        op(grant, "a/x/y", "remove"),
    ]

    results = house.sync(bearer, ops, b"xy")

    assert errors(results) == [*["path_conflict"] * 5, None]
    assert sorted(file.path for file in house.services.files.list(bearer, grant.run)) == [
        "a",
        "d/f",
    ]


# -- large files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_direct", [True, False])
def test_a_large_file_in_odd_pieces(
    house: House, held: Held, monkeypatch: pytest.MonkeyPatch, with_direct: bool
) -> None:
    """Bytes are whole whatever the pieces, past the page cache or through it, also continued."""
    if not with_direct:
        monkeypatch.delattr(os, "O_DIRECT")
    grant, bearer = held
    data = bytes(range(251)) * 50_000  # 12.5 MB
    cut = 9_000_003
    pieces = [data[i : i + 1_000_003] for i in range(0, cut, 1_000_003)]
    pieces[-1] = pieces[-1][: cut - 1_000_003 * (len(pieces) - 1)]

    first = house.sync(bearer, [append(grant, DATA, 0, cut)], *pieces)
    rest = data[cut:] + data
    second = house.sync(
        bearer, [append(grant, DATA, cut, len(rest)), seal(grant, DATA, data + data)], rest
    )

    assert first == [SyncResult(cut)]
    assert errors(second) == [None, None]
    assert local(house, grant, DATA).read_bytes() == data + data


def test_a_body_that_is_cut_leaves_what_came(house: House, held: Held) -> None:
    """After an abort the stored size is the truth and the sender goes on from there."""
    grant, bearer = held
    data = os.urandom(9 * 1024 * 1024)
    writer = house.services.files.open_frame(bearer, whole(grant, DATA, data))
    writer.feed(data[:8_500_001])
    writer.abort()
    writer.abort()

    stored = house.services.files.stored(bearer, grant.run, 1)
    assert stored == [StoredFile(DATA, 8_500_001)]
    rest = [append(grant, DATA, 8_500_001, len(data) - 8_500_001), seal(grant, DATA, data)]
    assert errors(house.sync(bearer, rest, data[8_500_001:])) == [None, None]


def test_a_frame_with_too_many_or_too_few_bytes_is_refused(house: House, held: Held) -> None:
    """The operations say how many bytes follow; other frames are bad ones."""
    grant, bearer = held
    writer = house.services.files.open_frame(bearer, [append(grant, LOG, 0, 3)])
    with pytest.raises(BadFrame):
        writer.feed(b"abcd")
    writer.abort()
    writer = house.services.files.open_frame(bearer, [append(grant, LOG, 3, 3)])
    writer.feed(b"d")
    with pytest.raises(BadFrame):
        writer.finish()
    with pytest.raises(BadFrame):
        house.services.files.open_frame(bearer, [append(grant, LOG, 0, -1)])
    assert house.services.files.stored(bearer, grant.run, 1) == [StoredFile(LOG, 4)]


def test_a_file_that_was_begun_before_a_restart_is_sealed(house: House, held: Held) -> None:
    """The stored bytes are the truth: a new server hashes what it finds and goes on."""
    grant, bearer = held
    house.sync(bearer, [append(grant, LOG, 0, 5)], b"hello")
    house.services.close()

    house = open_house(house.folder)
    try:
        bearer = house.services.access.authenticate(grant.token)
        ops = [append(grant, LOG, 5, 6), seal(grant, LOG, b"hello world")]
        assert errors(house.sync(bearer, ops, b" world")) == [None, None]
    finally:
        house.services.close()


def test_the_end_of_a_run_looks_at_no_folder_while_all_is_known_to_be_sealed(
    house: House, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is remembered; what is open again, or came before a restart, is looked for."""
    grant, bearer = held
    looked: list[str] = []
    real = Spool.files

    def files(spool: Spool, run: str, attempt: int) -> Iterator[tuple[str, int]]:
        looked.append(run)
        return real(spool, run, attempt)

    monkeypatch.setattr(Spool, "files", files)
    house.put(bearer, grant, {LOG: b"hello", DATA: b"1"})
    assert (_unsealed(house, grant), looked) == ([], [])
    house.sync(bearer, [append(grant, LOG, 5, 1)], b"!")
    assert (_unsealed(house, grant), looked) == ([LOG], [grant.run])
    house.services.close()

    house = open_house(house.folder)
    try:
        assert _unsealed(house, grant) == [LOG]
    finally:
        house.services.close()


# -- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3_000, 9_000_000])
def test_a_full_disk_loses_nothing_that_was_stored(
    house: House, held: Held, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The answer is storage_full, retryable, with the true offset; later it goes on from there."""
    grant, bearer = held
    data = os.urandom(size)
    room = size * 2 // 3
    real = os.pwrite

    def pwrite(descriptor: int, piece: memoryview, offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, piece[: room - offset], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pieces = [data[i : i + 1_000_000] for i in range(0, size, 1_000_000)]
    full = house.sync(bearer, [*whole(grant, DATA, data), *whole(grant, LOG, b"")], *pieces)
    monkeypatch.undo()

    assert (full[0].error, full[0].retryable) == ("storage_full", True)
    assert errors(full)[1:] == ["offset_mismatch", None, None]
    stored = {file.path: file.size for file in house.services.files.stored(bearer, grant.run, 1)}
    assert stored[DATA] == full[0].offset == room
    assert local(house, grant, DATA).read_bytes() == data[: full[0].offset]
    rest = [append(grant, DATA, full[0].offset, size - full[0].offset), seal(grant, DATA, data)]
    assert errors(house.sync(bearer, rest, data[full[0].offset :])) == [None, None]


def test_a_flush_that_fails_seals_nothing(
    house: House, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be put on the disk is not said to be sealed, and can be sealed later."""
    grant, bearer = held

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    results = house.sync(bearer, whole(grant, LOG, b"abc"), b"abc")
    monkeypatch.undo()

    assert (results[1].error, results[1].retryable) == ("unavailable", True)
    assert house.services.files.stored(bearer, grant.run, 1) == [StoredFile(LOG, 3)]
    assert errors(house.sync(bearer, [seal(grant, LOG, b"abc")])) == [None]


# -- two at once ----------------------------------------------------------------------------------


def test_the_later_request_wins(house: House, held: Held) -> None:
    """A frame that hangs in a half-open line cannot write over what came after it."""
    grant, bearer = held
    old = house.services.files.open_frame(bearer, whole(grant, DATA, b"old old old"))
    old.feed(b"old")
    house.sync(bearer, [write(grant, DATA, 0, 3), seal(grant, DATA, b"new")], b"new")

    old.feed(b" old old")
    results = old.finish()

    assert (results[0].error, results[0].retryable) == ("unavailable", True)
    assert local(house, grant, DATA).read_bytes() == b"new"
    assert house.services.files.stored(bearer, grant.run, 1)[0].sha256 == sha(b"new")


def test_a_seal_that_is_overtaken_before_its_commit_is_refused(house: House, held: Held) -> None:
    """Between the digest and the row another request changed the file: it is not sealed."""
    grant, bearer = held
    slow = house.services.files.open_frame(
        bearer, [*whole(grant, DATA, b"one"), append(grant, LOG, 0, 1)]
    )
    slow.feed(b"one")
    house.sync(bearer, [append(grant, DATA, 3, 3)], b"two")
    slow.feed(b"x")
    results = slow.finish()

    assert errors(results) == [None, "unavailable", None]
    assert house.services.files.stored(bearer, grant.run, 1)[1] == StoredFile(DATA, 6)


def test_many_threads_at_once(house: House) -> None:
    """Frames of many runs at the same time all arrive whole and sealed."""
    held = [house.claimed(f"run {n}") for n in range(4)]
    failed: list[object] = []

    def send(grant: LeaseGrant, bearer: Identity, worker: int) -> None:
        for number in range(10):
            data = f"{worker} {number} ".encode() * 50
            path = f"outputs/{worker}/{number}"
            results = house.sync(bearer, whole(grant, path, data), data)
            failed.extend(result for result in results if result.error)

    threads = [
        threading.Thread(target=send, args=(*held[worker % 4], worker)) for worker in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert failed == []
    for grant, bearer in held:
        files = house.services.files.stored(bearer, grant.run, 1)
        assert len(files) == 20
        assert all(file.sealed for file in files)


# -- who, and what viewers see --------------------------------------------------------------------


def test_late_files_of_a_lost_attempt_are_taken(house: House) -> None:
    """An agent whose lease went to another still delivers; its files lie under its own attempt."""
    house.services.runs.create(house.admin, _new(house))
    (grant,) = house.lease("x")
    failed = Report(grant.run, 1, RunState.FAILED)
    house.services.leases.report(house.agent("x"), [failed])

    assert errors(house.sync(house.agent("x"), whole(grant, LOG, b"late"), b"late")) == [None] * 2
    assert (
        errors(house.sync(house.bearer(grant), whole(grant, LOG, b"late"), b"late")) == [None] * 2
    )
    assert errors(house.sync(house.agent("y"), whole(grant, LOG, b""), b"")) == ["not_allowed"] * 2


def test_an_attempts_token_touches_its_run_alone(house: House, held: Held) -> None:
    """Another run's files can be neither written nor read with it; viewers cannot write at all."""
    _, bearer = held
    other, _ = house.claimed("other")

    assert errors(house.sync(bearer, whole(other, LOG, b"x"), b"x")) == ["not_allowed"] * 2
    with pytest.raises(NotFound):
        house.services.files.stored(bearer, other.run, 1)
    viewer = house.user("eve", "viewer")
    assert errors(house.sync(viewer, whole(other, LOG, b"x"), b"x")) == ["not_allowed"] * 2
    assert house.services.files.list(viewer, other.run) == []
    bob = house.user("bob")
    assert errors(house.sync(bob, whole(other, LOG, b"x"), b"x")) == ["not_allowed"] * 2


def test_viewers_see_log_series_and_files(house: House, held: Held) -> None:
    """Text, points and names go out when their bytes are stored; a repeat shows nothing twice."""
    grant, bearer = held
    text = "Zeit = 1 µs\n".encode()
    points = b'{"series": "T", "x": 1, "y": 2}\nnonsense\n{"series": "T", "x": 2}\n{"ser'
    ops = [
        append(grant, LOG, 0, 10),
        append(grant, LOG, 10, len(text) - 10),
        append(grant, "metadata/series.jsonl", 0, len(points)),
        append(grant, DATA, 0, 3),
    ]
    del house.told[:]

    house.sync(bearer, ops, text + points + b"abc")
    house.sync(bearer, ops[:2], text)

    by_type = [(event.type, event.data, event.id) for event in house.told]
    assert [kind for kind, _, _ in by_type] == [live.LOG, live.LOG, live.SERIES, live.FILES]
    assert "".join(data["text"] for _, data, _ in by_type[:2]) == text.decode()
    assert [point["x"] for point in by_type[2][1]["points"]] == [1, 2]
    assert by_type[3][1]["files"] == [{"path": DATA, "size": 3}]
    assert {event_id for _, _, event_id in by_type} == {None}


def test_of_a_flood_of_log_viewers_see_the_end(house: House, held: Held) -> None:
    """A megabyte of log at once is shown by its last 64 KiB, with the offset where they begin."""
    grant, bearer = held
    del house.told[:]

    house.sync(bearer, [append(grant, LOG, 0, 1_000_000)], b"x" * 1_000_000)

    (event,) = [event for event in house.told if event.type == live.LOG]
    assert event.data["offset"] == 1_000_000 - 64 * 1024
    assert len(event.data["text"]) == 64 * 1024


# -- any sequence ---------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "write", "truncate", "remove", "rename", "seal"]),
        st.sampled_from(["a", "b", "d/c"]),
        st.integers(0, 12),
        st.binary(max_size=8),
        st.sampled_from(["a", "b", "d/c"]),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(OPERATIONS, max_size=3))
def test_any_sequence_agrees_with_a_dictionary(
    house: House, batches: list[list[tuple[str, str, int, bytes, str]]]
) -> None:
    """Whatever is sent, the stored bytes are those of a plain model, and sealed means just that."""
    grant, bearer = house.claimed()
    files: dict[str, bytes] = {}
    for batch in batches:
        ops, body, expected = [], b"", []
        for kind, path, offset, data, to in batch:
            carried = kind in ("append", "write")
            known: dict[str, dict[str, Any]] = {
                "append": {"offset": offset, "length": len(data)},
                "write": {"offset": offset, "length": len(data)},
                "truncate": {"size": offset},
                "seal": {"size": len(files.get(path, b"")), "sha256": sha(files.get(path, b""))},
                "rename": {"to": to},
            }
            ops.append(op(grant, path, kind, **known.get(kind, {})))
            body += data if carried else b""
            expected.append(_model(files, kind, path, offset, data, to))
        results = house.sync(bearer, ops, body)
        assert [result.error is None for result in results] == expected
        open_ones = [
            f.path for f in house.services.files.stored(bearer, grant.run, 1) if not f.sealed
        ]
        assert _unsealed(house, grant) == open_ones
    stored = {file.path: file for file in house.services.files.stored(bearer, grant.run, 1)}
    assert set(stored) == set(files)
    for path, data in files.items():
        assert local(house, grant, path).read_bytes() == data
        assert stored[path].sha256 in (None, sha(data))


def _unsealed(house: House, grant: LeaseGrant) -> list[str]:
    """Return what the end of the run would be told of."""
    with house.services.files.completing([(grant.run, grant.attempt)]):
        return list(house.services.files.unsealed(grant.run, grant.attempt))


def _model(
    files: dict[str, bytes], kind: str, path: str, offset: int, data: bytes, to: str
) -> bool:
    """Do to a dictionary what the operation does to the spool; say whether it succeeds."""
    present = files.get(path)
    content = present or b""
    if kind == "append":
        overlap = content[offset:][: len(data)]
        if offset > len(content) or data[: len(overlap)] != overlap:
            return False
        files[path] = content if len(overlap) == len(data) else content[:offset] + data
    elif kind == "write":
        if offset > len(content):
            return False
        files[path] = content[:offset] + data + content[offset + len(data) :]
    elif kind == "truncate":
        if offset > len(content):
            return False
        if present is not None:
            files[path] = content[:offset]
    elif kind == "remove":
        files.pop(path, None)
    elif kind == "rename":
        if present is None:
            return to in files
        files[to] = files.pop(path)
    elif kind == "seal":
        files.setdefault(path, b"")
    return True
