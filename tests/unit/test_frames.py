"""Frames: read in pieces of any size, with their limits."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.wire.frames import LENGTH, MAX_MANIFEST, FrameDecoder, FrameError, encode_frame

_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=10,
)


def _feed(decoder: FrameDecoder, data: bytes, step: int) -> tuple[list[Any], bytes]:
    """Feed *data* in pieces; return the values that came, and what is left behind the last."""
    values = []
    waiting = data
    while waiting:
        piece, waiting = waiting[:step], waiting[step:]
        value = decoder.feed(piece)
        if value is not None:
            values.append(value)
            waiting, decoder.rest = decoder.rest + waiting, b""
    return values, decoder.rest


def test_the_bytes_of_a_frame() -> None:
    """Eight bytes of length, most significant first, then compact UTF-8 JSON."""
    assert encode_frame({"v": 1, "é": None}) == b'\0\0\0\0\0\0\0\x11{"v":1,"\xc3\xa9":null}'


@given(
    values=st.lists(_VALUES.filter(lambda v: v is not None), max_size=4), step=st.integers(1, 40)
)
def test_frames_come_whole_from_pieces_of_any_size(values: list[Any], step: int) -> None:
    """Several frames on one line, read 1, 10 or 40 bytes at a time, give the same values."""
    line = b"".join(encode_frame(value) for value in values)
    assert _feed(FrameDecoder(), line, step) == (values, b"")


@pytest.mark.parametrize("step", [1, 7, 8, 9, 10, 1000])
def test_raw_bytes_behind_the_manifest_are_kept(step: int) -> None:
    """The operations' bytes follow the manifest and are left untouched."""
    manifest = {"v": 1, "ops": [{"op": "append", "length": 20}]}
    raw = bytes(range(20))
    decoder = FrameDecoder()
    data = encode_frame(manifest) + raw
    for start in range(0, len(data), step):
        value = decoder.feed(data[start : start + step])
        if value is not None:
            assert value == manifest
            assert decoder.rest + data[start + step :] == raw
            return
    pytest.fail("the manifest did not come")


@pytest.mark.parametrize("step", [1, 10])
def test_a_length_over_the_limit_is_refused_unread(step: int) -> None:
    """After the eight bytes of length nothing more of the frame is taken."""
    data = LENGTH.pack(MAX_MANIFEST + 1) + b"x" * 100
    decoder = FrameDecoder()
    before = 7 // step * step  # as many whole steps as leave the length open
    for start in range(0, before, step):
        assert decoder.feed(data[start : start + step]) is None
    with pytest.raises(FrameError, match="over the limit"):
        decoder.feed(data[before : before + step])
    assert FrameDecoder(limit=4).feed(LENGTH.pack(4) + b"true") is True


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"{} {}", b"nul"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """A body that is not one JSON value raises `FrameError`, also when it is not UTF-8."""
    with pytest.raises(FrameError, match="not JSON"):
        FrameDecoder().feed(LENGTH.pack(len(body)) + body)


def test_null_is_no_frame() -> None:
    """A frame that holds null cannot be told from one that is not whole; it is refused."""
    with pytest.raises(FrameError):
        FrameDecoder().feed(encode_frame(None))


def test_deep_nesting_is_refused() -> None:
    """JSON that would exhaust the stack is a bad frame, not a crash."""
    body = b"[" * 200_000 + b"]" * 200_000
    with pytest.raises(FrameError):
        FrameDecoder().feed(struct.pack(">Q", len(body)) + body)


def test_many_small_pieces_take_linear_time() -> None:
    """A manifest of 2 MB read 10 bytes at a time is joined once, not at every piece."""
    value = ["x" * 100] * 20_000
    data = encode_frame(value)
    decoder = FrameDecoder()
    got = [decoder.feed(data[start : start + 10]) for start in range(0, len(data), 10)]
    assert [v for v in got if v is not None] == [value]
    assert json.loads(data[8:]) == value
