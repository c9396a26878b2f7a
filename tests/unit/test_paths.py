"""Paths of artifacts: safe, and never two files under one name."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from physicsrunner.core.paths import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    WORK_FOLDERS,
    artifact_path,
    check_path,
    printable,
)
from physicsrunner.errors import UnsafePath

GOOD = [
    "outputs/files/u.vtu",
    'a b/it\'s "quoted"/x',
    "emoji \N{WAVING HAND SIGN}.txt",
    "line\nbreak",
    "-rf",
    "..a/b..",
    "con/aux/nul",
    "tab\there\\back\\slash",
    "%41%zz",
    "n" * MAX_NAME_BYTES,
    "/".join(["p" * 31] * 32),
]
BAD = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "a/../b",
    "a/..",
    "nul\0byte",
    "n" * (MAX_NAME_BYTES + 1),
    "\N{WAVING HAND SIGN}" * 64,
    "/".join(["p" * 31] * 33),
    "surrogate\udcff",
]


@pytest.mark.parametrize("path", GOOD)
def test_good_names_pass_unchanged(path: str) -> None:
    """Names with spaces, quotes, emoji and newlines are good names."""
    assert check_path(path) == path


@pytest.mark.parametrize("path", BAD)
def test_bad_paths_are_refused(path: str) -> None:
    """What would leave its folder, or no file system can hold, is refused."""
    with pytest.raises(UnsafePath):
        check_path(path)


@given(st.text())
def test_what_is_accepted_stays_inside(path: str) -> None:
    """An accepted path joined to a folder lies below it, and its parts fit the file system."""
    try:
        check_path(path)
    except UnsafePath:
        return
    joined = os.path.normpath(os.path.join("/folder", path))  # noqa: PTH118 - pure text
    assert joined == f"/folder/{path}"
    assert len(path.encode()) <= MAX_PATH_BYTES


_NAMES = st.sampled_from(
    [
        "outputs",
        "files",
        "data_files",
        "data_files_",
        "data_files__",
        "logs",
        "debug",
        "metadata",
        "a",
        "%",
        "%FF",
        "%25",
        "\ufffd",
        "\ufffdFF",
        "\udcff",
        "\udc80%",
        "\udc41",
        "\udbff",
        "\ud800",
        "é",
    ]
)
_LEAVES = st.one_of(
    _NAMES, st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8)
)
_WORK_PATHS = st.builds(
    lambda top, parts: "/".join([top, *parts]),
    st.sampled_from(["outputs", "debug", "metadata"]),
    st.lists(_LEAVES, min_size=1, max_size=4),
)


def _on_disk(path: str) -> bool:
    """Whether a Linux file can have this name as Python shows it."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return os.fsdecode(raw) == path and all(p not in ("", ".", "..") for p in path.split("/"))


@settings(max_examples=500)
@given(first=_WORK_PATHS, second=_WORK_PATHS)
@example(first="outputs/files/a", second="outputs/data_files/a")
@example(first="outputs/files_/a", second="outputs/data_files/a")
@example(first="outputs/data_files_/a", second="outputs/data_files/a")
@example(first="outputs/logs", second="outputs/logs/a")
@example(first="debug/a", second="metadata/debug/a")
@example(first="outputs/\udcff", second="outputs/%FF")
@example(first="outputs/\udcff", second="outputs/\ufffdFF")
@example(first="metadata/debug", second="metadata/debug_")
@example(first="outputs/files", second="outputs/data_files")
def test_two_files_never_share_a_name(first: str, second: str) -> None:
    """`artifact_path` is injective over the paths that a disk can hold, and gives good paths."""
    if not (_on_disk(first) and _on_disk(second)):
        return
    if first != second:
        assert artifact_path(first) != artifact_path(second)
    check_path(artifact_path(first))


@pytest.mark.parametrize(
    ("work", "artifact"),
    [
        ("outputs/logs/main.log", "logs/main.log"),
        ("outputs/plots/p.csv", "outputs/plots/p.csv"),
        ("outputs/files/u.vtu", "outputs/data_files/u.vtu"),
        ("outputs/media/a.png", "outputs/media/a.png"),
        ("outputs/graphics/g.vtp", "outputs/graphics/g.vtp"),
        ("outputs/results.json", "outputs/results.json"),
        ("metadata/series.jsonl", "metadata/series.jsonl"),
        ("debug/runner.log", "metadata/debug/runner.log"),
        ("outputs/state.txt", "outputs/state.txt"),
        ("outputs/data_files/x", "outputs/data_files_/x"),
        ("outputs/data_files", "outputs/data_files_"),
        ("outputs/plots/outputs/data_files/x", "outputs/plots/outputs/data_files/x"),
        ("metadata/debug/x", "metadata/debug_/x"),
    ],
)
def test_the_layout(work: str, artifact: str) -> None:
    """Files land where section 7.2 of the simulation manager's document has them."""
    assert artifact_path(work) == artifact


def test_printable_keeps_good_text() -> None:
    """Text that is Unicode passes unchanged, with its per cent signs."""
    assert printable("100 %/é\n") == "100 %/é\n"
    assert printable("\udcff%") == "\ufffdFF%"
    assert printable("\ufffd") == "\ufffd\ufffd"


def test_the_work_folders_are_relative_and_safe() -> None:
    """Every folder of the work folder passes the check, parents before children."""
    for position, folder in enumerate(WORK_FOLDERS):
        assert check_path(folder) == folder
        parent = folder.rpartition("/")[0]
        assert not parent or parent in WORK_FOLDERS[:position]
