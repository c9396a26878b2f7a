"""``physicsrunner sync``: deliver what runs left in their work folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import count, size
from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable, UsageError

if TYPE_CHECKING:
    from physicsrunner.runner.result import RunResult


@make_command("sync")
@click.argument(
    "folders",
    metavar="WORKDIR...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
def command(call: Invocation, folders: tuple[Path, ...]) -> int:
    """
    Deliver runs that were carried out without a server, or cut off from it.

    WORKDIR is a run's work folder, or a folder of such (./runs). A run that the server does not
    know yet is created there under its own id. What is there already is not sent again; a repeat
    is harmless. The exit code is 7 when something could not be delivered yet.
    """
    found = [work for folder in folders for work in _work_folders(folder)]
    documents, code = [], 0
    for folder in found:
        try:
            result = _deliver(call, folder)
            if not result.delivered:
                code = max(code, ServerUnavailable.exit_code)
            documents.append(_told(call, folder, result))
        except PhysicsRunnerError as error:
            if len(found) == 1:
                raise
            # One that cannot be delivered does not keep the others.
            call.screen.note(f"{folder}: {error}")
            documents.append({"work_dir": str(folder), "delivered": False, "error": str(error)})
            code = max(code, error.exit_code)
    if call.as_json:
        call.screen.document({"data": documents})
    return code


def _work_folders(folder: Path) -> Iterator[Path]:
    from physicsrunner.cli.prepare import history_of

    if history_of(folder).run is not None:
        yield folder
        return
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    inside = [path for path in folders if history_of(path).run is not None]
    if not inside:
        raise UsageError(f"{folder} is no work folder of a run, and holds none")
    yield from (path for path in inside if not history_of(path).delivered)


def _deliver(call: Invocation, folder: Path) -> RunResult:
    from physicsrunner.cli.local import watched
    from physicsrunner.runner.api import deliver_folder

    server = token = None
    if call.host or not _has_server(folder):
        server, token = call.server, call.needed_token()
    with watched(call, folder) as (on_progress, stop):
        return deliver_folder(
            folder, server=server, token=token, on_progress=on_progress, stop=stop
        )


def _has_server(folder: Path) -> bool:
    from physicsrunner.runner.api import load_config
    from physicsrunner.runner.workdir import WorkFolder

    kept = WorkFolder(folder.absolute()).kept_config()
    if kept is None:
        return False
    config = load_config(kept)
    return bool(config.server or config.host)


def _told(call: Invocation, folder: Path, result: RunResult) -> dict[str, object]:
    for warning in result.warnings:
        call.screen.note(f"warning: {warning}")
    if not call.as_json:
        what = f"{count(result.files, 'file')}, {size(result.bytes)}"
        told = f"delivered, {what}" if result.delivered else "not delivered yet"
        call.screen.text(f"{folder}: {told} (run {result.run}, {result.state})")
    return {
        "work_dir": str(folder),
        "run": result.run,
        "state": str(result.state),
        "delivered": result.delivered,
        "files": result.files,
        "bytes": result.bytes,
    }
