"""``physicsrunner logs``: what a run writes, up to now or as it comes."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.errors import NotFound

if TYPE_CHECKING:
    from physicsrunner.client.client import Client


@make_command("logs")
@click.argument("run")
@click.argument("path", default="logs/main.log")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Begin at this byte.")
@click.option("-n", "--tail", type=click.IntRange(1), help="Only the last so many kilobytes.")
def command(
    call: Invocation, run: str, path: str, follow: bool, offset: int, tail: int | None
) -> None:
    """
    Print a log of RUN: what main.py writes, or the file PATH below logs/.

    With --json one line a piece: {path, offset, text}.
    """
    if not path.startswith("logs/"):
        path = f"logs/{path}"
    # A piece may end in the middle of a character.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with call.client() as client:
        if tail is not None:
            sizes = {file["path"]: int(file["size"]) for file in client.files(run)}
            offset = max(offset, sizes.get(path, 0) - tail * 1000)
        empty = True
        for piece in client.logs(run, path, offset=offset, follow=follow):
            empty = False
            text = decoder.decode(piece.data)
            if call.as_json:
                call.screen.line({"path": piece.path, "offset": piece.offset, "text": text})
            else:
                call.screen.raw(text)
        if empty and not _logs(client, run, path):
            call.screen.note("nothing is written yet")
    rest = decoder.decode(b"", final=True)
    if rest and not call.as_json:
        call.screen.raw(rest)


def _logs(client: Client, run: str, path: str) -> list[str]:
    """Return the names of the run's logs; `NotFound` where there are some, but not *path*."""
    logs = [file["path"] for file in client.files(run) if file["path"].startswith("logs/")]
    if logs and path not in logs:
        names = ", ".join(name.removeprefix("logs/") for name in logs)
        raise NotFound(f"run {run} has no {path}; it has: {names}")
    return logs
