"""``physicsrunner delete``: remove ended runs with their files."""

from __future__ import annotations

import sys
from typing import Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, named, runs_argument
from physicsrunner.cli.tables import count


@make_command("delete")
@runs_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(call: Invocation, runs: tuple[str, ...], yes: bool) -> int:
    """
    Delete ended runs: their record, their files, their events. There is no way back.

    RUN is a number, an id, or a range of numbers such as 17-116. Runs that have not ended and
    pinned ones are refused. In a terminal you are asked first.
    """
    if not yes and sys.stdin.isatty():
        told = count(len(named(runs)), "run")
        click.confirm(f"Delete {told} and all files for ever?", abort=True, err=True)
    with call.client() as client:
        return each_run(call, runs, client.delete, _told)


def _told(_answer: dict[str, Any]) -> str:
    return "deleted"
