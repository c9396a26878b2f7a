"""Bundles: which names are safe, and that the version is the content's."""

from __future__ import annotations

import stat
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.core.bundle import MAX_FILES, check_member, check_names, content_version
from physicsrunner.errors import InvalidRequest, UnsafeArchive

PAIRS = st.lists(
    st.tuples(st.text(min_size=1), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    unique_by=lambda pair: pair[0],
)


@given(PAIRS, st.randoms())
def test_the_order_does_not_matter(pairs: list[tuple[str, str]], random: Random) -> None:
    """However the files are listed, the version is the same."""
    shuffled = sorted(pairs, key=lambda _: random.random())
    encodable = [pair for pair in shuffled if _encodable(pair[0])]

    assert content_version(encodable) == content_version(sorted(encodable))


@given(PAIRS, PAIRS)
def test_other_content_is_another_version(
    one: list[tuple[str, str]], two: list[tuple[str, str]]
) -> None:
    """Two different contents never share a version."""
    one = [pair for pair in one if _encodable(pair[0])]
    two = [pair for pair in two if _encodable(pair[0])]
    assert (content_version(one) == content_version(two)) == (sorted(one) == sorted(two))


def _encodable(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


@pytest.mark.parametrize("name", ["main.py", "lib/a b.py", "data/", "ü/🌊", "..."])
def test_safe_members(name: str) -> None:
    """Plain relative names pass; a folder loses its slash."""
    assert check_member(name, mode=stat.S_IFREG | 0o644) == name.rstrip("/")


@pytest.mark.parametrize(
    ("name", "mode", "size", "packed"),
    [
        ("../x", 0, 0, 0),
        ("/x", 0, 0, 0),
        ("a//b", 0, 0, 0),
        ("", 0, 0, 0),
        ("a\\b", 0, 0, 0),
        ("link", stat.S_IFLNK | 0o777, 1, 1),
        ("pipe", stat.S_IFIFO, 0, 0),
        ("disk", stat.S_IFBLK, 0, 0),
        ("bomb", 0, 10**9, 1000),
    ],
)
def test_unsafe_members(name: str, mode: int, size: int, packed: int) -> None:
    """Paths that lead out, links, devices and bombs are refused."""
    with pytest.raises(UnsafeArchive):
        check_member(name, mode=mode, size=size, packed=packed)


def test_names_of_a_bundle() -> None:
    """main.py must be at the top, no name twice, and not without end."""
    check_names(["main.py", "a"])
    with pytest.raises(InvalidRequest):
        check_names(["src/main.py"])
    with pytest.raises(UnsafeArchive):
        check_names(["main.py", "main.py"])
    with pytest.raises(UnsafeArchive):
        check_names(["main.py", *(str(number) for number in range(MAX_FILES))])
