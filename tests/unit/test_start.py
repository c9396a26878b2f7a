"""The short way in: the runner's own options alone begin a run without the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from physicsrunner.cli.start import runner_options


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("--configPath=c.json", {"config": "c.json"}),
        ("run --config c.json", {"config": "c.json"}),
        (
            "--configPath c.json --startingStage=run --skipStages upload --debugMode",
            {"config": "c.json", "starting_stage": "run", "skip_stages": "upload", "debug": ""},
        ),
    ],
)
def test_the_runners_own_options_are_read(given: str, found: dict[str, str]) -> None:
    """Both forms of a value, in any order, also after the word run."""
    assert runner_options(given.split()) == found


@pytest.mark.parametrize(
    "given",
    [
        "",
        "--help",
        "run ./case",
        "run",
        "--configPath",
        "--configPath=",
        "--configPath --debugMode",
        "--configPath=c.json --debugMode=1",
        "--configPath=c.json --json",
        "--configPath=c.json --host http://x",
        "--configPath=c.json extra",
        "submit --configPath=c.json",
    ],
)
def test_everything_else_is_for_the_command_line(given: str) -> None:
    """Help, mistakes and other commands are answered in one place."""
    assert runner_options(given.split()) is None


def test_a_run_begins_without_click_and_says_what_is_wrong() -> None:
    """An error on the short way has the words and the exit code of the long one."""
    program = (
        "import sys; from physicsrunner.cli.start import main\n"
        "try: main(['--configPath=/nowhere/config.json'])\n"
        "except SystemExit as end: sys.exit(90 if 'click' in sys.modules else end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no configuration file /nowhere/config.json")
