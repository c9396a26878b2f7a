"""
The command line: ``physicsrunner``, the same as ``python -m physicsrunner``.

Promises:

- A command is loaded when it is called: ``--help`` and ``run`` start without the others.
- Every command is carried out behind `cli.door`, where errors become exit codes and words.
- ``physicsrunner --configPath=...`` without a command means ``run``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

import click

from physicsrunner import __version__
from physicsrunner.cli.door import INTERRUPTED, behind_door, tell
from physicsrunner.core.exitcodes import EXIT_CODES
from physicsrunner.errors import UsageError

#: Group -> command -> what it does. The module of a command is cli/NAME.py.
COMMANDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Run": {
            "run": "Carry out a case here, live.",
            "submit": "Queue a case on the server.",
            "cancel": "Ask runs to stop.",
            "pause": "Hold runs that wait; stop programs where they are.",
            "resume": "Let paused and held runs go on.",
            "retry": "Run ended runs again.",
            "delete": "Remove ended runs with their files.",
            "pin": "Keep runs for ever.",
            "unpin": "Keep runs no longer.",
            "sync": "Deliver runs that were carried out without a server.",
            "demo": "Run a packaged case and check its result.",
        },
        "Look": {
            "queue": "Show what waits, and for what.",
            "list": "List the runs.",
            "show": "Show one run; --follow it live.",
            "logs": "Print what a run writes; -f to follow.",
            "results": "List the results of a run.",
            "series": "Show the live series of a run.",
            "files": "List the files of a run.",
            "download": "Fetch the files of a run.",
            "events": "List what happened; --follow as it happens.",
        },
        "Serve": {
            "up": "Start a server and an agent on this machine.",
            "server": "Start the server alone.",
            "agent": "Carry out runs of a server on this machine.",
            "agents": "List the agents; enroll, drain, resume, remove one.",
            "webhooks": "Have events sent to addresses; list, try, remove them.",
            "admin": "Save, restore and check the data of a server.",
            "login": "Log in to a server, and keep the token.",
            "logout": "Revoke the token of a server, and drop it.",
            "users": "List the people; add, change, disable one.",
            "projects": "List the projects; their members.",
            "tokens": "List your tokens; make or revoke one.",
            "audit": "Show who changed what, from where and when.",
        },
    }
)

_EXAMPLES: Final = (
    ("physicsrunner demo cavity --check", "a real flow, checked against a published table"),
    ("physicsrunner run ./case -p viscosity=0.01", "carry out here, no server needed"),
    ("physicsrunner up", "server and agent; then, in another terminal:"),
    ("physicsrunner submit ./case --follow", "queue, and watch it run"),
    ("physicsrunner download 7 --to results", "fetch what run 7 wrote"),
)
#: The published package is called with options alone; they belong to `run`.
_RUN_OPTIONS: Final = ("--configPath", "--config", "--startingStage", "--skipStages", "--debugMode")


_NARROW: Final = 75  # columns
_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """The group of all commands; each module is imported when its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.list_commands(ctx):
            module = importlib.import_module(f"physicsrunner.cli.{name}")
            found: click.Command = module.command
            return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Give it a main.py: it runs it anywhere, shows it live, loses nothing.\n\n")
        formatter.write("Usage: physicsrunner COMMAND [OPTIONS]\n")
        widest = max(map(len, self.list_commands(ctx)))
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                # Padded, so that the words of all groups begin in one column.
                formatter.write_dl([(name.ljust(widest), what) for name, what in commands.items()])
        with formatter.section("Examples"):
            # In a narrow terminal what it does stands below the command.
            formatter.write_dl(list(_EXAMPLES), col_max=45 if formatter.width >= _NARROW else 4)
        with formatter.section("Exit codes"):
            codes = {**EXIT_CODES, INTERRUPTED: "interrupted: Ctrl-C"}
            formatter.write_dl([(str(code).rjust(3), words) for code, words in codes.items()])
        formatter.write(
            "\n`physicsrunner COMMAND --help` explains a command; each one takes `--json`.\n"
        )


@click.group(cls=Commands, context_settings=_CONTEXT)
@click.version_option(__version__, "-V", "--version", message="physicsrunner %(version)s")
def cli() -> None:
    """Give it a main.py: it runs it anywhere, shows it live, loses nothing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the command line *arguments* (default: those of this process) and exit."""
    sys.exit(carry_out(sys.argv[1:] if arguments is None else arguments))


def carry_out(arguments: Sequence[str]) -> int:
    """Carry out the command line *arguments* and return the exit code."""
    return carry_out_as(cli, "physicsrunner", _with_command(arguments))


def carry_out_as(command: click.Command, name: str, given: Sequence[str]) -> int:
    """Carry out *command*, called as the program *name*, and return the exit code."""
    as_json, debug = "--json" in given, "--debug" in given
    return behind_door(
        lambda: _click(command, name, given, as_json, debug), as_json=as_json, debug=debug
    )


def _click(
    command: click.Command, name: str, given: Sequence[str], as_json: bool, debug: bool
) -> int:
    """Let click carry it out; its own errors become ours."""
    try:
        code = command.main(args=list(given), prog_name=name, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"`{context.command_path} --help` shows what it takes." if context else None
        return tell(UsageError(error.format_message()), hint, as_json=as_json, debug=debug)


def _with_command(arguments: Sequence[str]) -> list[str]:
    given = list(arguments)
    if given and given[0].split("=")[0] in _RUN_OPTIONS:
        return ["run", *given]
    return given or ["--help"]


if __name__ == "__main__":
    main()
