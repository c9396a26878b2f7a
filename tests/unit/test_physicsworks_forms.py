"""Forms of the PhysicsWorks wire: what goes in comes out, whatever the pieces."""

from __future__ import annotations

import base64
import io
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.errors import InvalidRequest
from physicsrunner.server.doors.physicsworks.forms import FormStream, read_form
from physicsrunner.wire.physicsworks import decode_form, encode_form

FIELDS = st.fixed_dictionaries(
    {"filename": st.text(max_size=8), "metadata": st.dictionaries(st.text(max_size=6), st.text())}
)


def published(fields: dict[str, object], data: bytes) -> bytes:
    """Make the form as the published client does."""
    chunk = base64.b64encode(data).decode()
    first, *rest = fields.items()
    document = dict([first, ("chunk", chunk), *rest])
    return urlencode({"json": json.dumps(document)}).encode()


@settings(deadline=None, max_examples=100)
@given(fields=FIELDS, data=st.binary(max_size=200))
def test_ours_and_the_published_form_carry_the_same(fields: dict[str, object], data: bytes) -> None:
    """Both ways of writing a form are read to the same fields and bytes."""
    assert decode_form(encode_form(fields, data)) == (fields, data)
    assert decode_form(published(fields, data)) == (fields, data)


@settings(deadline=None, max_examples=200)
@given(fields=FIELDS, data=st.binary(max_size=200), cuts=st.lists(st.integers(1, 40), min_size=1))
def test_a_form_may_come_in_any_pieces(
    fields: dict[str, object], data: bytes, cuts: list[int]
) -> None:
    """Escapes, base64 groups and JSON may be cut anywhere."""
    for body in (published(fields, data), encode_form(fields, data)):
        found = bytearray()
        stream = FormStream(found.extend)
        place = 0
        while place < len(body):
            step = cuts[place % len(cuts)]
            stream.feed(body[place : place + step])
            place += step

        assert stream.finish() == fields
        assert bytes(found) == data
        assert stream.size == len(data)


@pytest.mark.parametrize("name", ["chunk", 'a"chunk', "{", "a\\"])
def test_metadata_may_use_the_same_words(name: str) -> None:
    """A key or a text of the metadata that looks like the chunk is not taken for it."""
    fields = {"metadata": {name: "AAAA", "more": {"chunk": '"chunk": "'}}, "filename": "f"}
    body = urlencode({"json": json.dumps({**fields, "chunk": "aGk="})}).encode()
    for step in (1, 7, len(body)):
        found = bytearray()
        stream = FormStream(found.extend)
        for place in range(0, len(body), step):
            stream.feed(body[place : place + step])
        assert stream.finish() == fields
        assert bytes(found) == b"hi"


def test_a_form_goes_through_files() -> None:
    """A large form is read from one file and its bytes go to another."""
    data = bytes(range(256)) * 20_000
    target = io.BytesIO()

    fields, payload = read_form(io.BytesIO(published({"filename": "f"}, data)), target)

    assert fields == {"filename": "f"}
    assert payload.size == len(data)
    assert b"".join(payload.pieces()) == data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"json=",
        b"json=%7B%7D",
        b"other=1",
        b"json=%7B%22chunk%22%3A%22****%22%7D",
        b"json=%7B%22chunk%22%3A%22YWJ%22%7D",
        b"json=%7B%22chunk%22%3A%22YWJj%22",
        b"json=%7B%22chunk%22%3A1%7D",
        b"json=%5B%22chunk%22%5D",
        b"json=%7B%22a%22%3A%7B%22chunk%22%3A%22YWJj%22%7D%7D",
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    """Nothing is guessed: a form that cannot be read exactly is an error."""
    with pytest.raises(InvalidRequest):
        decode_form(body)
    with pytest.raises(InvalidRequest):
        read_form(io.BytesIO(body), io.BytesIO())


def test_a_form_that_is_nested_without_end_is_refused() -> None:
    """Depth that no reader of JSON survives is the sender's fault in both readers of forms."""
    deep = b"json=" + b'{"a":' * 100_000
    with pytest.raises(InvalidRequest):
        decode_form(deep)
    form = FormStream(lambda _data: None)
    form.feed(b'json={"chunk":"","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(InvalidRequest):
        form.finish()
