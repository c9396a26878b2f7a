"""The command line's face: help, names, errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from physicsrunner import __version__
from physicsrunner.cli.main import COMMANDS, carry_out, cli
from physicsrunner.cli.screen import Screen
from physicsrunner.core.exitcodes import EXIT_CODES

NAMES = [name for group in COMMANDS.values() for name in group]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = carry_out(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    """One number, wherever it is asked for."""
    assert run(capsys, "--version") == (0, f"physicsrunner {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_shows_everything_on_one_page(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Commands in groups, examples, exit codes; no line too wide, no page too long."""
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    for group, commands in COMMANDS.items():
        assert f"{group}:" in out
        for name, what in commands.items():
            assert f"  {name} " in out
            assert what.split(";")[0].rstrip(".") in out
    for number in EXIT_CODES:
        assert f" {number} " in out
    assert max(map(len, out.splitlines())) <= 100
    assert len(out.splitlines()) < 75


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Not in words, not in notes, not in errors: control characters are shown, not obeyed."""
    screen = Screen()
    screen.text("run 1: a\x1b[2Jb")
    screen.note("of a\x9bb\nsecond line")
    shown = "".join(capsys.readouterr())
    code, _, err = run(capsys, "demo", "no\x1b]0;such\x07")
    assert code == 2
    assert "second line" in shown
    assert (shown + err).replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """No command of the examples is torn apart."""
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = run(capsys, "--help")
    assert max(map(len, out.splitlines())) <= max(width, 80)
    assert "  physicsrunner run ./case -p viscosity=0.01" in out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "1e300"])
def test_a_time_limit_is_a_number_of_minutes(
    capsys: pytest.CaptureFixture[str], minutes: str
) -> None:
    """What no clock can reach is a mistake, not a run without a limit."""
    code, _, err = run(capsys, "run", "case", "--timeout", minutes)
    assert code == 2
    assert "expected minutes: more than 0" in err


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_the_common_options(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """--json and --debug work on all of them, and each says what it does."""
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert "--json" in out
    assert "--debug" in out
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    assert found.help


def test_a_wrong_command_is_told_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line for what is wrong and one for what to do."""
    code, out, err = run(capsys, "lsit")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: there is no command 'lsit'; did you mean 'list'?",
        "  `physicsrunner --help` shows what it takes.",
    ]


def test_a_wrong_option_names_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The hint leads to the help of that command."""
    code, _, err = run(capsys, "show", "1", "--folow")
    assert code == 2
    assert "--folow" in err
    assert "`physicsrunner show --help`" in err


def test_errors_are_json_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that calls us reads the code, not the words."""
    code, out, err = run(capsys, "run", "--json")
    assert (code, out) == (2, "")
    problem = json.loads(err)
    assert (problem["code"], problem["exit_code"], problem["retryable"]) == ("usage", 2, False)
    assert problem["what_to_do"]


def test_an_unexpected_error_shows_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says how to see more; --debug raises."""

    def broken(**_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(cli, "main", broken)
    code, _, err = run(capsys, "list")
    assert code == 1
    assert err.splitlines()[0] == "error: unexpected RuntimeError: boom; --debug shows where"
    with pytest.raises(RuntimeError):
        carry_out(["list", "--debug"])


def test_options_alone_mean_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The published package is called so: --configPath without a command."""
    code, _, err = run(capsys, "--configPath=/nowhere/config.json")
    assert code == 2
    assert "/nowhere/config.json" in err


def test_help_loads_neither_requests_nor_the_server() -> None:
    """A help page is there at once: what is heavy is loaded by the command that needs it."""
    program = (
        "import sys; from physicsrunner.cli.main import carry_out; carry_out(['--help']);"
        "heavy = {'requests', 'yaml', 'socketio', 'fastapi', 'sqlalchemy', 'numpy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
