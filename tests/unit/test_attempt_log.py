"""The log of one attempt: what it shows, and what never."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from physicsrunner.runner.logs import AttemptLog

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def test_a_line_has_its_time_and_level(tmp_path: Path) -> None:
    """A line of the log says when, how bad, and what."""
    log = AttemptLog("a", debug=False)
    log.open(tmp_path / "debug" / "runner.log")
    log.logger.info("stage %s: %.1f s", "init", 0.25)
    log.logger.debug("not shown")
    text = (tmp_path / "debug" / "runner.log").read_text()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(stamp + r" INFO    stage init: 0\.2 s\n", text)


def test_secrets_are_in_no_line(tmp_path: Path) -> None:
    """Neither messages nor arguments nor tracebacks show what is hidden, or looks like a token."""
    log = AttemptLog("a", debug=False)
    log.hide("swordfish", "***")
    log.open(tmp_path / "runner.log")
    log.logger.info("with %s and %s", "swordfish", TOKEN)
    try:
        raise ValueError(f"swordfish {TOKEN}")
    except ValueError:
        log.logger.exception("it failed")
    text = (tmp_path / "runner.log").read_text()
    assert "swordfish" not in text
    assert TOKEN not in text
    assert "with *** and [token]" in text
    assert "ERROR   it failed\nTraceback" in text
    assert "ValueError: *** [token]" in text


def test_each_line_of_a_secret_is_hidden() -> None:
    """The last line of a log tells why a program failed: it may be one of a key's lines."""
    log = AttemptLog("a", debug=False)
    log.hide("-----BEGIN KEY-----\nMIIEvQIBADANBg\n", "***")
    log.hide("swordfish\n", "***")
    assert log.redact("its log ends: MIIEvQIBADANBg") == "its log ends: ***"
    assert log.redact("with swordfish") == "with ***"


def test_a_faulty_line_is_written_as_well_as_it_can_be(tmp_path: Path) -> None:
    """Arguments that do not fit their message neither raise nor are lost."""
    log = AttemptLog("a", debug=False)
    log.open(tmp_path / "runner.log")
    log.logger.warning("%d files", "many")
    assert "%d files ('many',)" in (tmp_path / "runner.log").read_text()


def test_later_lines_go_to_the_later_file(tmp_path: Path) -> None:
    """From the second `open` on nothing is added to the first; without lines no file is made."""
    log = AttemptLog("a", debug=False)
    first, later = tmp_path / "runner.log", tmp_path / "late.log"
    log.open(first)
    log.logger.info("one")
    log.open(later)
    assert not later.exists()
    log.logger.info("two")
    log.close()
    log.logger.info("three")
    assert "two" not in first.read_text()
    assert later.read_text().endswith("INFO    two\n")


def test_debug_mode_also_shows_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In debug mode standard error has the same lines, and the file that cannot be opened."""
    log = AttemptLog("a", debug=True)
    (tmp_path / "blocked").write_text("")
    log.open(tmp_path / "blocked" / "runner.log")
    log.logger.debug("shown")
    shown = capsys.readouterr().err
    assert "cannot write the log" in shown
    assert "DEBUG   shown" in shown
