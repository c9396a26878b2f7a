"""``physicsrunner logs``: what a run writes, up to now or as it comes."""

from __future__ import annotations

import codecs

import click

from physicsrunner.cli.command import Invocation, make_command


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
        for piece in client.logs(run, path, offset=offset, follow=follow):
            text = decoder.decode(piece.data)
            if call.as_json:
                call.screen.line({"path": piece.path, "offset": piece.offset, "text": text})
            else:
                call.screen.raw(text)
    rest = decoder.decode(b"", final=True)
    if rest and not call.as_json:
        call.screen.raw(rest)
