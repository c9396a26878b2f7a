"""Values of secrets in logs: covered wherever they are split, and nothing else is changed."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.service.masks import Mask

VALUES = ("abcabd", "bdcc", 'xy"z\n')
PIECES = st.lists(st.sampled_from(["abcabd", "bdcc", "abc", "a", "b", "\n", 'xy"z\n', r"xy\"z\n"]))


@given(PIECES, st.integers(0, 40), st.integers(1, 9))
def test_a_log_that_is_read_in_pieces_is_the_whole_covered_log(
    pieces: list[str], offset: int, limit: int
) -> None:
    """Wherever a piece begins and ends, it is that part of the covered whole."""
    raw, mask = "".join(pieces).encode(), Mask(VALUES)
    whole, _ = mask.read(io.BytesIO(raw), 0, len(raw) + 1, ended=True)
    assert len(whole) == len(raw)
    assert not any(value.encode() in whole for value in VALUES)
    part, size = mask.read(io.BytesIO(raw), offset, limit, ended=True)
    assert size == len(raw)
    assert part == whole[offset : offset + limit]


@given(PIECES, st.integers(1, 9))
def test_a_growing_log_never_shows_what_turns_out_to_be_secret(
    pieces: list[str], step: int
) -> None:
    """What is shown of a log that grows byte by byte is the beginning of the covered whole."""
    raw, mask = "".join(pieces).encode(), Mask(VALUES)
    shown = b""
    for end in range(0, len(raw) + 1, step):
        more, size = mask.read(io.BytesIO(raw[:end]), len(shown), 100, ended=False)
        shown += more
        assert size <= end
    assert mask.covered(raw).startswith(shown)


def test_what_is_short_is_not_looked_for() -> None:
    """A value of a few bytes stands in every log; a run without others has no mask."""
    assert not Mask(["abc", ""])
    assert Mask(["abc", "abcd"]).covered(b"abc abcd") == b"abc ****"


def test_what_may_begin_a_value_at_the_very_end_is_covered_too() -> None:
    """A program that was killed while it wrote a secret has not shown most of it."""
    read, _ = Mask(["s3cr3t-value"]).read(io.BytesIO(b"key s3cr3t-v"), 0, 100, ended=True)
    assert read == b"key ********"


KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhki9\n-----END KEY-----\n"


def test_the_lines_of_a_secret_are_covered_one_by_one() -> None:
    """A key is printed line by line as often as whole; short lines of it say nothing."""
    mask = Mask([KEY, "password\n"])
    assert mask.covered(KEY.encode()) == b"*" * len(KEY)
    shown = mask.covered(b"1: MIIEvQIBADANBg\r\n2: kqhki9\r\nwith password")
    assert shown == b"1: **************\r\n2: kqhki9\r\nwith ********"
