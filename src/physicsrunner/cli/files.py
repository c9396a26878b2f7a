"""``physicsrunner files``: the files of a run."""

from __future__ import annotations

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, count, size

_COLUMNS = (
    Column("SIZE", right=True),
    Column("STATE"),
    Column("FILE", shrink=True),
    Column("SHA-256", spare=True),
)


@make_command("files")
@click.argument("run")
@click.option("--attempt", type=click.IntRange(1), help="Of this attempt; default: the last.")
def command(call: Invocation, run: str, attempt: int | None) -> None:
    """
    List the files of RUN.

    A sealed file is whole, and its SHA-256 was compared; one that grows is still being written.
    """
    with call.client() as client:
        files = client.files(run, attempt)
    if call.as_json:
        call.screen.document({"data": files, "total": len(files)})
        return
    rows = [
        [
            size(file["size"]),
            "sealed" if file.get("sealed") else "grows",
            file["path"],
            (file.get("sha256") or "")[:12],
        ]
        for file in files
    ]
    if not rows:
        call.screen.note("no files yet")
        return
    call.screen.table(_COLUMNS, rows)
    total = sum(int(file["size"]) for file in files)
    call.screen.note(f"{count(len(files), 'file')}, {size(total)}")
