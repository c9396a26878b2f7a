"""Tables, sizes and times in a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.cli.screen import Progress, Screen
from physicsrunner.cli.tables import Column, ago, columns_of, fit, number, seconds, size, table

COLUMNS = (
    Column("RUN", right=True),
    Column("NAME", shrink=True),
    Column("NOTE", shrink=True, spare=True),
)


def test_columns_stand_below_their_titles() -> None:
    """Numbers at the right, texts at the left, nothing behind the last word."""
    lines = table(COLUMNS, [["7", "cavity", "x"], ["12", "heat", ""]])
    assert lines == ["RUN  NAME    NOTE", "  7  cavity  x", " 12  heat"]


def test_a_narrow_terminal_loses_the_spare_column_first() -> None:
    """What can be done without goes before what is needed is cut."""
    lines = table(COLUMNS, [["7", "a-long-name", "note"]], width=16)
    assert lines == ["RUN  NAME", "  7  a-long-name"]


@settings(deadline=None, max_examples=200)
@given(
    rows=st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), max_size=6),
    width=st.integers(1, 60),
)
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    """Whatever is in the cells: wide characters, control characters, nothing."""
    for line in table(COLUMNS, rows, width):
        assert columns_of(line) <= width
        assert line.isprintable()


def test_names_cannot_move_the_cursor() -> None:
    """A run's name with an escape sequence is shown as what it is."""
    assert fit("a\x1b[2Jb\n", None) == "a\\x1b[2Jb\\n"


def test_wide_characters_count_twice() -> None:
    """A column of Chinese names lines up."""
    lines = table((Column("A"), Column("B")), [["中文", "x"], ["abcd", "y"]])
    assert columns_of(lines[1][: lines[1].index("x")]) == lines[2].index("y")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2.5e15, "2500.0 TB")],
)
def test_sizes(count: float, words: str) -> None:
    """A size never reads 1000.0 of a unit when there is a larger one."""
    assert size(count) == words


def test_durations_and_times() -> None:
    """Short ones with a digit, long ones as a clock shows them."""
    assert [seconds(s) for s in (0.5, 59.94, 59.96, 3599.6, 180_000)] == [
        "0.50 s",
        "59.9 s",
        "1:00 min",
        "1:00 h",
        "2.1 days",
    ]
    assert [ago(1e9 - s, 1e9) for s in (-5, 30, 150, 7200, 3 * 86400, 30 * 86400)] == [
        "0 s ago",
        "30 s ago",
        "2 min ago",
        "2 h ago",
        "3 days ago",
        "2001-08-10",
    ]
    assert (number(1 / 3), number(True), number(12345678), number("x")) == (
        "0.333333",
        "True",
        "12345678",
        "x",
    )


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is drawn in place and taken away at the end; what is said stays."""
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), iter(range(100))
    with Progress(stream, now=lambda: float(next(clock))) as progress:
        progress.show(0.5, "half")
        progress.say("event")
        progress.show(1.0, "all")
    text = stream.getvalue()
    assert "50 %  half" in text
    assert "event\n" in text
    assert text.endswith("\r\x1b[2K")
    assert text.count("\n") == 1


def test_a_pipe_gets_a_plain_line_now_and_then() -> None:
    """Nothing for what is done in a moment, a line each five seconds, no escapes."""
    stream, now = io.StringIO(), [0.0]
    progress = Progress(stream, now=lambda: now[0])
    for tick in range(12):
        now[0] = float(tick)
        progress.show(tick / 12, f"step {tick}")
    progress.show(1.0, "done")
    progress.close()
    assert stream.getvalue().splitlines() == [" 42 %  step 5", " 83 %  step 10", "100 %  done"]
    quick = io.StringIO()
    with Progress(quick) as progress:
        progress.show(1.0, "done")
    assert quick.getvalue() == ""


def test_json_is_all_that_standard_output_gets() -> None:
    """With --json the progress is silent, and a document is one line in a pipe."""
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(as_json=True, out=out, err=err)
    with screen.progress() as progress:
        progress.bytes(1, 2, "x")
        progress.say("y")
    screen.document({"a": "é"})
    assert out.getvalue() == '{"a": "é"}\n'
    assert err.getvalue() == ""


def test_a_stream_that_is_not_utf8_does_not_end_the_command() -> None:
    """Characters that it has not come out as escapes."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen(out=stream).text("Δ 1")
    assert raw.getvalue() == b"\\u0394 1\n"
