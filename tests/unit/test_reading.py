"""JSON of somebody else: how deep it may be, whatever Python reads it."""

from __future__ import annotations

import pytest

from physicsrunner.wire.reading import LARGE, MOST_DEEP, loads


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_same_depth_is_taken_by_every_python(size: int, opened: bytes, closed: bytes) -> None:
    """Half a thousand levels are read; one more is refused, also beside much that is flat."""

    def nested(levels: int) -> bytes:
        return opened * levels + (b"1" if opened != b"[" else b"") + closed * levels + b" " * size

    assert loads(nested(MOST_DEEP))
    for levels in (MOST_DEEP + 1, 3_000):
        with pytest.raises(ValueError, match="nested"):
            loads(b"[[],[1,2],{}," + nested(levels) + b"]")


def test_many_that_lie_side_by_side_are_not_deep() -> None:
    """It is the depth that counts, not how many there are."""
    assert len(loads(b"[" + b"[[]]," * 10_000 + b"1]")) == 10_001
