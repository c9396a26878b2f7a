"""``physicsrunner download``: the files of a run, whole and checked."""

from __future__ import annotations

from pathlib import Path

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import count, size


@make_command("download")
@click.argument("run")
@click.argument("paths", nargs=-1)
@click.option(
    "-o",
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files; default: run-NUMBER.",
)
@click.option("-j", "--jobs", default=4, show_default=True, type=click.IntRange(1, 32))
def command(
    call: Invocation, run: str, paths: tuple[str, ...], target: Path | None, jobs: int
) -> None:
    """
    Fetch the files of RUN.

    PATHS are files, folders or patterns ('*.vtu'); default: all. What was cut before goes on where
    it was; what is here already is not fetched again; every sealed file's SHA-256 is compared.
    """
    with call.client() as client:
        if target is None:
            target = Path(f"run-{client.get(run)['number']}")
        with call.screen.progress() as progress:
            done = client.download(run, target, paths, jobs=jobs, on_file=progress.bytes)
    if call.as_json:
        call.screen.document(
            {
                "files": [
                    {
                        "path": file.path,
                        "target": str(file.target),
                        "size": file.size,
                        "sha256": file.sha256,
                        "fetched": file.fetched,
                    }
                    for file in done
                ]
            }
        )
        return
    fetched = [file for file in done if file.fetched]
    here = f"; here already: {len(done) - len(fetched)}" if len(fetched) < len(done) else ""
    total = size(sum(file.size for file in fetched))
    call.screen.text(f"{count(len(fetched), 'file')}, {total}, in {target}{here}")
    open_ = [file.path for file in done if file.sha256 is None]
    if open_:
        call.screen.note(f"{len(open_)} of them are still being written: fetch them again later")
