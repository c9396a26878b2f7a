"""Frames: read in pieces of any size, with their limits."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.wire import frames
from physicsrunner.wire.frames import (
    LENGTH,
    MAX_MANIFEST,
    BadRequest,
    FrameDecoder,
    FrameError,
    FrameStream,
    encode_frame,
)

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


# -- many frames on one line, and what they say ----------------------------------------------------


def _bodies(
    stream: FrameStream, data: bytes, step: int, found: list[bytes] | None = None
) -> list[bytes]:
    """Feed *data* in pieces; return the bodies, which are put into *found* one by one."""
    found = [] if found is None else found
    for start in range(0, len(data), step):
        for body in stream.feed(data[start : start + step]):
            found.append(body)
    return found


@given(bodies=st.lists(st.binary(max_size=40), max_size=6), step=st.integers(1, 60))
def test_a_stream_gives_every_frame_once(bodies: list[bytes], step: int) -> None:
    """Whatever is read at once, the bodies come whole and in order, and nothing is left over."""
    stream = FrameStream()
    line = b"".join(frames.frame_of(body) for body in bodies)
    assert _bodies(stream, line, step) == bodies
    assert stream.waiting == 0


@given(
    body=st.binary(min_size=1, max_size=40), cut=st.integers(1, 47), step=st.sampled_from([1, 10])
)
def test_a_frame_that_is_cut_gives_nothing(body: bytes, cut: int, step: int) -> None:
    """Of a frame whose end does not come nothing is given, and the stream says what waits."""
    stream = FrameStream()
    line = frames.frame_of(body)[:cut]
    if cut < 8 + len(body):
        assert _bodies(stream, line, step) == []
        assert stream.waiting == len(line)


@given(data=st.binary(max_size=300), step=st.sampled_from([1, 10, 300]))
def test_no_bytes_break_a_stream(data: bytes, step: int) -> None:
    """Any bytes in any pieces give frames or `FrameError`, and JSON or `FrameError`."""
    stream = FrameStream(limit=64)
    try:
        for body in _bodies(stream, data, step):
            frames.json_of(body)
    except FrameError:
        return


@pytest.mark.parametrize("step", [1, 10, 1000])
def test_a_stream_refuses_a_length_after_the_frames_before_it(step: int) -> None:
    """Frames before a length over the limit are given; of that frame nothing is taken."""
    found: list[bytes] = []
    data = frames.frame_of(b"true") + LENGTH.pack(5) + b"x" * 50
    with pytest.raises(FrameError, match="5 bytes is over the limit of 4"):
        _bodies(FrameStream(limit=4), data, step, found)
    assert found == [b"true"]


def test_a_stream_takes_linear_time() -> None:
    """A body of 2 MB in pieces of 10 bytes is joined once; 20,000 frames in one piece are cut."""
    body = b"x" * 2_000_000
    assert _bodies(FrameStream(), frames.frame_of(body), 10) == [body]
    many = frames.frame_of(b"1") * 20_000
    assert _bodies(FrameStream(), many, len(many)) == [b"1"] * 20_000


def test_the_bytes_of_the_envelopes() -> None:
    """Requests, answers and errors stand as the document has them, key by key."""
    asked = encode_frame(frames.request("submit", "u", {"mag": 5.2}))
    body = b'{"v":1,"op":"submit","req_id":"u","payload":{"mag":5.2}}'
    assert asked == b"\0\0\0\0\0\0\0\x38" + body
    assert encode_frame(frames.answer("u", {"a": 1}))[8:] == (
        b'{"v":1,"req_id":"u","ok":true,"result":{"a":1}}'
    )
    assert encode_frame(frames.refusal(None, "C", "why"))[8:] == (
        b'{"v":1,"req_id":null,"ok":false,"error":{"code":"C","message":"why"}}'
    )


def test_a_request_is_read_as_it_was_made() -> None:
    """What `request` makes, `request_of` reads; what is missing of it is empty."""
    made = frames.request_of(frames.request("get", "u", {"id": 1}))
    assert (made.op, made.req_id, made.payload) == ("get", "u", {"id": 1})
    bare = frames.request_of({"v": 1, "op": "ping", "payload": None, "more": 1})
    assert (bare.op, bare.req_id, bare.payload) == ("ping", None, {})


@pytest.mark.parametrize(
    ("value", "code", "req_id"),
    [
        ([], frames.BAD_REQUEST, None),
        ("ping", frames.BAD_REQUEST, None),
        (None, frames.BAD_REQUEST, None),
        ({}, frames.UNSUPPORTED_VERSION, None),
        ({"v": 2, "op": "ping", "req_id": "u"}, frames.UNSUPPORTED_VERSION, "u"),
        ({"v": True, "op": "ping", "req_id": "u"}, frames.UNSUPPORTED_VERSION, "u"),
        ({"v": 1.0, "op": "ping", "req_id": "u"}, frames.UNSUPPORTED_VERSION, "u"),
        ({"v": 1, "req_id": "u"}, frames.BAD_REQUEST, "u"),
        ({"v": 1, "op": 3, "req_id": "u"}, frames.BAD_REQUEST, "u"),
        ({"v": 1, "op": "", "req_id": "u"}, frames.BAD_REQUEST, "u"),
        ({"v": 1, "op": "ping", "req_id": 7}, frames.BAD_REQUEST, None),
        ({"v": 1, "op": "ping", "req_id": "x" * 201}, frames.BAD_REQUEST, None),
        ({"v": 1, "op": "ping", "req_id": "\ud800"}, frames.BAD_REQUEST, None),
        ({"v": 1, "op": "\udfff", "req_id": "u"}, frames.BAD_REQUEST, "u"),
        ({"v": 1, "op": "ping", "req_id": "u", "payload": []}, frames.BAD_REQUEST, "u"),
    ],
)
def test_what_is_no_request_is_refused(value: Any, code: str, req_id: str | None) -> None:
    """Each part that is wrong has its code, and the answer can name the request where it can."""
    with pytest.raises(BadRequest) as caught:
        frames.request_of(value)
    assert (caught.value.code, caught.value.req_id) == (code, req_id)
    json.dumps(caught.value.message).encode()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b'{"a":-Infinity}', b"1" * 5000])
def test_a_body_that_is_not_strict_json_is_refused(body: bytes) -> None:
    """What JSON has no word for is no JSON here, whatever Python would read."""
    with pytest.raises(FrameError, match="not JSON"):
        frames.json_of(body)


@given(value=_VALUES)
def test_no_value_breaks_the_reading_of_requests(value: Any) -> None:
    """Any JSON value is a request, or is refused with a code."""
    with contextlib.suppress(BadRequest):
        frames.request_of(value)
