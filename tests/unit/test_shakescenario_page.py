"""What docs/shakescenario.md says and what the door does are the same names and numbers."""

from __future__ import annotations

import re
from pathlib import Path

from physicsrunner import errors
from physicsrunner.cli import shakescenario as program
from physicsrunner.cli.shakescenario_server import command
from physicsrunner.core.run import MAX_LIMIT, RunRecord
from physicsrunner.server.doors.shakescenario import door, jobs, line, operations
from physicsrunner.wire import frames

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "shakescenario.md").read_text("utf-8")
RUN = RunRecord(id="r", number=1, name="n", created_by="ada", created_at=0.0, updated_at=0.0)


def rows(heading: str) -> list[str]:
    """Return the rows of the table below *heading*, without its head."""
    section = PAGE.split(f"\n{heading}\n", 1)[1]
    found = re.search(r"^\| --- .*\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert found
    return found[1].splitlines()


def first_codes(heading: str) -> set[str]:
    """Return the words in `backticks` of the first column of the table below *heading*."""
    return {word for row in rows(heading) for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_operation_is_described() -> None:
    """The page has those that there are, and no others."""
    assert first_codes("## The protocol") == {*operations.NAMES, "ping", "auth", "wait"}


def test_every_command_is_described() -> None:
    """The page names each command of the client, and each option of the server."""
    listed = re.search(r"`shakescenario (ping \|[^`]+)`", PAGE)
    assert listed
    known = program._parser().format_help()
    for name in listed[1].split(" | "):
        assert re.search(rf"^ +{name} ", known, re.MULTILINE), name
    assert len(listed[1].split(" | ")) == len(re.findall(r"^    [a-z]+ ", known, re.MULTILINE))
    own = {option for param in command.params for option in param.opts} - {"--json", "--debug"}
    assert first_codes("## Start it") == own


def test_the_fields_of_a_job_are_described() -> None:
    """Each field of a job stands on the page, and each says what it is."""
    assert first_codes("### A job") == set(jobs.whole(RUN, ()))


def test_the_errors_are_described() -> None:
    """The protocol's own codes, the door's, and only such of ours as there are."""
    ours = {
        value.code.upper()
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PhysicsRunnerError)
    }
    said = first_codes("### Errors")
    own = {
        frames.BAD_FRAME,
        frames.BAD_REQUEST,
        frames.UNSUPPORTED_VERSION,
        frames.UNKNOWN_OP,
        "TOO_MANY_WAITS",
        "TOO_MANY_CONNECTIONS",
        "INTERNAL",
    }
    assert own <= said
    assert said - own <= ours


def test_the_numbers_are_those_of_the_code() -> None:
    """Limits and patience stand on the page as they are."""
    patience = line.Patience()
    words = " ".join(PAGE.split())
    assert f"limit of {patience.limit >> 20} MiB ({patience.stranger_limit >> 10} KiB" in words
    assert (patience.frame_s, patience.frame_rate, patience.idle_s) == (60, 32 * 1024, 15 * 60)
    assert "within a minute (and a second more for each 32 KiB)" in words
    assert f"within {patience.stranger_s:g} s" in words
    assert f"an answer for {patience.send_s:g} s" in words
    assert "nothing for 15 minutes" in words
    assert f"more than {line.MAX_QUEUED} requests" in words
    assert f"more than {line.MAX_WAITS} waits" in words
    assert f"more than {door.MAX_LINES} of them" in words
    assert f"({operations.CHUNK >> 20} MiB, at most {operations.MAX_CHUNK >> 20} MiB)" in words
    assert f"({operations.DEFAULT_LIMIT}, at most {MAX_LIMIT})" in words
    assert f"at most {frames.MAX_REQ_ID} characters" in words
