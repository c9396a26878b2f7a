"""state.txt: what a line says, in whatever pieces it comes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.core.progress import LONGEST_LABEL, StateParser, Status, parse_line


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("50%", 50),
        ("50 %", 50),
        ("25 percent", 25),
        ("25 Percent done", 25),
        ("12.5%", 12.5),
        (".5 %", 0.5),
        ("Processing - 50% complete", 50),
        ("Processing-50%", 50),
        ("Simulation completed successfully - 100%", 100),
        ("cpu at 30%, progress: 40%", 40),
        ("memory 80%, 40% complete", 40),
        ("7% of the first, 9% of the second", 7),
        ("no number here", None),
        ("150%", None),
        ("change of -5%", None),
        ("file50%", None),
        ("v1.2.30%", None),
        ("5 percentile", None),
    ],
)
def test_progress_of_free_text(line: str, progress: float | None) -> None:
    """A percentage in free text is the progress, where it can be one."""
    status = parse_line(line)
    assert status is not None
    assert status.progress == progress
    assert status.label == line


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Simulation finished", "finished"),
        ("COMPLETED", "finished"),
        ("All done.", "finished"),
        ("success!", "finished"),
        ("Simulation completed successfully - 100%", "finished"),
        ("Finished with 0 errors", "finished"),
        ("mesh done - 20%", None),
        ("Processing - 50% complete", None),
        ("not finished", None),
        ("not yet completed", None),
        ("undone", None),
        ("successive over-relaxation", None),
        ("error", "failed"),
        ("Error in solver", "failed"),
        ("Error: divergence", "failed"),
        ("FAILED to open the mesh", "failed"),
        ("  crash", "failed"),
        ("Aborted by user", "failed"),
        ("abort", "failed"),
        ("Solver failed: out of memory", "failed"),
        ("--> FOAM FATAL ERROR: bad cell", "failed"),
        ("ValueError: x", None),
        ("fatal error [code 3]: x", "failed"),
        ("residual error 1e-5", None),
        ("0 errors", None),
        ("no errors", None),
        ("no error: all is well", None),
        ("error norm = 3e-4", None),
        ("error 1e-5", None),
        ("error = 1e-5", None),
        ("error: 3.2e-4", None),
        ("Errors: 0", None),
        ("relative error: 2e-3 at step 5", None),
        ("abort tolerance", None),
        ("abort tolerance = 1e-6", None),
        ("crash test 12 started", None),
        ("error-free start", None),
        ("the last attempt failed and was repeated", None),
        ("src/error.c: read", None),
    ],
)
def test_keywords_of_free_text(line: str, status: str | None) -> None:
    """Keywords count as words; error and its kin only at the front or before a colon."""
    said = parse_line(line)
    assert said is not None
    assert said.status == status


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("50,Running,solver,running", Status(50, "Running", "running", "solver")),
        ("12.5,a, b, and c,mesh,pending", Status(12.5, "a, b, and c", "pending", "mesh")),
        ("100,all,post,finished", Status(100, "all", "finished", "post")),
        ("40,error norm 1e-3,solver,running", Status(40, "error norm 1e-3", "running", "solver")),
        ("40,Error: x,solver,running", Status(40, "Error: x", "running", "solver")),
        ("0,oh,solver,failed", Status(0, "oh", "failed", "solver")),
        ("0,oh,solver,error", Status(0, "oh", "failed", "solver")),
        ("70,message,,", Status(70, "message", None, "")),
        ("70,message", Status(70, "message", None, "")),
        ("70,message,running", Status(70, "message", "running", "")),
        ("half,message,step,running", Status(None, "message", "running", "step")),
        ("170,message,step,running", Status(100, "message", "running", "step")),
        ("nan,message,step,running", Status(None, "message", "running", "step")),
        ("50,message 10%,step,weird", Status(50, "message 10%", None, "step")),
    ],
)
def test_the_structured_line(columns: str, said: Status) -> None:
    """Progress, message, step and status come from their columns; a message may hold commas."""
    assert parse_line(f"2026-01-02 03:04:05,{columns}") == said


def test_both_forms_mix_and_progress_stays() -> None:
    """The last line is the status; progress is the last that was named."""
    parser = StateParser()
    assert parser.feed(b"2026-01-02 03:04:05,30,meshing,mesh,running\nnow solving\n") == Status(
        30, "now solving"
    )
    assert parser.feed(b"40 percent\r\n\r\n  \n") == Status(40, "40 percent")
    assert parser.feed(b"writing\r") == Status(40, "writing")


def test_a_line_without_end_waits() -> None:
    """Half a line says nothing until its end, or the end of the run."""
    parser = StateParser()
    assert parser.feed(b"5") is None
    assert parser.peek() == Status(None, "5")
    assert parser.feed(b"0%\n7") == Status(50, "50%")
    assert parser.current == Status(50, "50%")
    assert parser.finish() == Status(50, "7")
    assert parser.finish() is None


def test_a_file_that_begins_anew() -> None:
    """What was half read is forgotten; the progress stays until another is named."""
    parser = StateParser()
    parser.feed(b"90%\nhalf a li")
    parser.restart()
    assert parser.feed(b"\xef\xbb\xbfnew\n") == Status(90, "new")


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"\xef\xbb\xbf50% of it\n", "50% of it"),
        ("Température: 50%\n".encode("latin-1"), "Température: 50%"),
        ("Température: 50%\n".encode(), "Température: 50%"),
        (b"a\0b 50%\n", "ab 50%"),
        (b"x" * 200_000 + b"\n", "x" * LONGEST_LABEL),
    ],
)
def test_any_bytes_are_taken(data: bytes, label: str) -> None:
    """Marks of encodings, other encodings, NULs and endless lines are no obstacle."""
    status = StateParser().feed(data)
    assert status is not None
    assert status.label == label


def test_100_000_lines_take_no_time() -> None:
    """A long file is read in well under a second, at once or in pieces."""
    lines = b"".join(b"step %d of 100000 is running\n" % n for n in range(100_000))
    parser = StateParser()
    start = time.process_time()
    parser.feed(b"3%\n" + lines)
    for n in range(0, len(lines), 4096):
        parser.feed(lines[n : n + 4096])
    assert time.process_time() - start < 2.0
    assert parser.current == Status(3, "step 99999 of 100000 is running")


LINES = st.lists(
    st.sampled_from(
        [
            "50%",
            "error norm = 1",
            "done",
            "",
            "2026-01-02 03:04:05,20,a,b,running",
            "2026-01-02 03:04:05,x,a,b,failed",
            "Größe 7 %",
        ]
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 9), min_size=1))
def test_pieces_do_not_matter(lines: list[str], end: str, cuts: list[int]) -> None:
    """However the bytes are cut, the last status is the one of the whole."""
    data = end.join(lines).encode()
    whole = StateParser()
    whole.feed(data)
    whole.finish()
    cut = StateParser()
    position = turn = 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        cut.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    cut.finish()
    assert cut.current == whole.current


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_nothing_breaks_the_parser(data: bytes) -> None:
    """Whatever the bytes: no error, and progress within its range."""
    parser = StateParser()
    parser.feed(data)
    parser.finish()
    if parser.current is not None and parser.current.progress is not None:
        assert 0 <= parser.current.progress <= 100
