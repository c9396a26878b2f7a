"""The plan of what to send: properties of the pure part."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from physicsrunner.core.sync import (
    MAX_BLOCKS,
    MIN_BLOCK,
    PRINT_BYTES,
    WHOLE_BYTES,
    Kind,
    Known,
    Move,
    Piece,
    Prints,
    Stamp,
    block_size,
    plan,
    plan_blocks,
    plan_renames,
    racy,
)


def stamp(size: int, *, inode: int = 1, mtime_ns: int = 5, ctime_ns: int = 5) -> Stamp:
    return Stamp(1, inode, size, mtime_ns, ctime_ns)


def prints(data: bytes, size: int) -> Prints:
    head, tail = data[: min(PRINT_BYTES, size)], data[max(0, size - PRINT_BYTES) : size]
    return Prints(size, zlib.crc32(head), zlib.crc32(tail))


def known_of(data: bytes, *, inode: int = 1) -> Known:
    size = len(data)
    return Known(size, None, (1, inode), prints(data, size), stamp(size, inode=inode))


def hashes(data: bytes, block: int) -> list[str]:
    return [hashlib.sha256(data[i : i + block]).hexdigest() for i in range(0, len(data), block)]


def repaired(stored: bytes, local: bytes, pieces: Sequence[Piece]) -> bytes:
    out = bytearray(stored)
    for piece in pieces:
        if piece.op == "truncate":
            assert piece.offset <= len(out)
            del out[piece.offset :]
        else:
            assert piece.offset <= len(out)
            assert piece.op == "write" or piece.offset == len(out)
            out[piece.offset : piece.offset + piece.length] = local[
                piece.offset : piece.offset + piece.length
            ]
    return bytes(out)


@given(st.binary(max_size=20_000), st.binary(min_size=1, max_size=20_000))
def test_growth(before: bytes, more: bytes) -> None:
    """Of a file that only grew, exactly the new bytes are sent."""
    after = before + more
    move = plan(known_of(before), stamp(len(after), mtime_ns=9), prints(after, len(before)))
    assert move == Move(Kind.APPEND, len(before), len(more))


@given(st.integers(0, 1 << 40))
def test_new_file(size: int) -> None:
    """A file of which nothing is stored is sent from its start, also when it is empty."""
    assert plan(None, stamp(size)) == Move(Kind.APPEND, 0, size)


@pytest.mark.parametrize("size", [0, 1, WHOLE_BYTES, WHOLE_BYTES + 1, 1 << 30])
@pytest.mark.parametrize("kind", ["inode", "shrunk", "head", "touched", "doubt"])
def test_rewritten(size: int, kind: str) -> None:
    """A rewritten file is never appended to: small ones go whole, large ones are compared."""
    known = Known(size, None, (1, 1), Prints(size, 1, 2), stamp(size))
    now, shown, doubt = stamp(size + 1, mtime_ns=9), Prints(size, 1, 2), False
    if kind == "inode":
        now = stamp(size + 1, inode=2)
    elif kind == "shrunk":
        now = stamp(max(0, size - 1), mtime_ns=9)
        if size == 0:
            return
    elif kind == "head":
        shown = Prints(size, 7, 2)
    elif kind == "touched":
        now = stamp(size, mtime_ns=9)
    else:
        doubt = True
    move = plan(known, now, shown, doubt=doubt)
    expected = Kind.REWRITE if now.size <= WHOLE_BYTES else Kind.COMPARE
    assert move.kind is expected
    alone = plan(known, now, shown, doubt=doubt, can_write=False)
    assert alone == Move(Kind.REWRITE, 0, now.size)


def test_unchanged() -> None:
    """An unchanged file is left alone, also when its mode or name changed (ctime)."""
    data = b"x" * 10_000
    move = plan(known_of(data), stamp(10_000, ctime_ns=99), prints(data, 10_000))
    assert move.kind is Kind.NOTHING


def test_after_a_restart() -> None:
    """Of a file known only by its stored size the rest is appended; the seal decides later."""
    assert plan(Known(100), stamp(300)) == Move(Kind.APPEND, 100, 200)
    assert plan(Known(300), stamp(300)).kind is Kind.NOTHING
    assert plan(Known(400), stamp(300)).kind is Kind.REWRITE


@given(st.data(), st.sampled_from([1, 3, 8]))
@settings(max_examples=300, deadline=None)
def test_blocks(data: st.DataObject, block: int) -> None:
    """After the planned repair both sides are equal, and no equal block was sent."""
    stored = data.draw(st.lists(st.sampled_from([b"a", b"b"]), max_size=40).map(b"".join))
    local = data.draw(st.lists(st.sampled_from([b"a", b"b"]), max_size=40).map(b"".join))
    there, here = hashes(stored, block), hashes(local, block)
    pieces = plan_blocks(len(stored), there, len(local), here, block)
    assert repaired(stored, local, pieces) == local
    written = sum(piece.length for piece in pieces if piece.op == "write")
    common = min(len(stored), len(local))
    differing = sum(
        min(block, common - index * block)
        for index in range(-(-common // block))
        if there[index] != here[index]
    )
    assert written == differing


@given(st.integers(0, 1 << 44))
def test_block_size(size: int) -> None:
    """The hashes of any file fit into one answer, and blocks are powers of two."""
    block = block_size(size)
    assert block >= MIN_BLOCK
    assert block & (block - 1) == 0
    assert size <= block * MAX_BLOCKS


names = st.sampled_from(["a", "b", "c", "d", "e"])


@given(st.permutations(["a", "b", "c", "d", "e"]), st.sets(names), st.sets(names))
def test_renames(shuffled: list[str], gone_names: set[str], grown: set[str]) -> None:
    """Carried out in order, every rename finds its source, and its target free or outdated."""
    before = {name: index for index, name in enumerate("abcde")}
    after = {
        new: before[old]
        for old, new in zip("abcde", shuffled, strict=True)
        if old not in gone_names
    }
    gone = {
        name: Known(10, file=(1, inode))
        for name, inode in before.items()
        if after.get(name) != inode
    }
    new = {
        name: stamp(11 if name in grown else 10, inode=inode)
        for name, inode in after.items()
        if before.get(name) != inode
    }
    held = dict(before)
    for source, target in plan_renames(gone, new):
        inode = held.pop(source)
        assert after[target] == inode
        # What the target held is gone for good, or has been moved away before.
        assert target not in held or held[target] not in after.values()
        held[target] = inode


def test_rename_of_a_shrunk_file() -> None:
    """A file that became shorter under its new name is not taken for the same."""
    assert plan_renames({"a": Known(10, file=(1, 7))}, {"b": stamp(9, inode=7)}) == ()


@pytest.mark.parametrize(
    ("age", "expected"), [(0.0, True), (0.019, True), (0.021, False), (-0.5, True), (-60, False)]
)
def test_racy(age: float, expected: bool) -> None:
    """A stamp proves something only when it is older than the clock's step."""
    at = 1_000_000_000
    assert racy(stamp(1, ctime_ns=at * 10**9), at + age) is expected
