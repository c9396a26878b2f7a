"""
`shakescenario-server`: a server with the ShakeScenario door, and an agent on this machine.

The same code as `physicsrunner up`, with the options of the document that this door follows.
Promises: what the server keeps besides the database lies beside that, in DB-data; started again
with the same database it goes on where it was, with the same job numbers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.main import carry_out_as
from physicsrunner.cli.server import log_to_stderr, options_of, serving
from physicsrunner.cli.up import both

if TYPE_CHECKING:
    from physicsrunner.server.serve import Place, ReadyServer

NAME: Final = "shakescenario-server"
_DOOR: Final = "shakescenario"
_PATH: Final = click.Path(path_type=Path, file_okay=False)
_POLL_S: Final = 2.0  # the server is next door


@make_command(NAME, server=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", "listen", metavar="ADDRESS", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=6000, show_default=True)
@click.option(
    "--db",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(f"{_DOOR}.db"),
    show_default=True,
    help="SQLite database of the jobs.",
)
@click.option(
    "--workdir",
    metavar="DIR",
    type=_PATH,
    default=Path("runs"),
    show_default=True,
    help="Where each job has its folder, job_000001 and so on.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=os.cpu_count() or 1,
    help="Jobs that are carried out at once; default: as many as there are cores.",
)
def command(
    call: Invocation, listen: str, port: int, db: Path, workdir: Path, workers: int
) -> None:
    """
    Take ShakeScenario jobs over TCP and carry them out on this machine.

    Programs of this machine need no token; others show one (docs/shakescenario.md). Ctrl-C or
    SIGTERM ends it. Jobs that wait are carried out after the next start, and a program that runs
    writes on and is taken up again.
    """
    serve = serving()
    log_to_stderr(debug=call.debug)
    place = _place(call, listen, port, db, workdir)
    settings: dict[str, Any] = {
        "name": NAME,
        "slots": workers,
        "cores": float(max(workers, os.cpu_count() or 1)),  # a worker is a job, whatever it takes
        "work": str(place.data / "work"),
        "cache": str(call.settings.cache),
        "poll_s": _POLL_S,
    }

    def listening(server: ReadyServer) -> None:
        _greet(call, server, place)

    both(serve, place, settings, listening)
    call.screen.note("the server has ended")


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the command line *arguments* (default: those of this process) and exit."""
    sys.exit(carry_out_as(command, NAME, sys.argv[1:] if arguments is None else arguments))


def _place(call: Invocation, listen: str, port: int, db: Path, workdir: Path) -> Place:
    from physicsrunner.server.serve import Place

    file = db.expanduser().absolute()
    user = options_of(call.settings).door_user
    options = replace(
        options_of(call.settings),
        database=f"sqlite:///{file}",
        doors=(_DOOR,),
        door_user="admin" if call.settings.door_user is None else user,
        shakescenario_host=listen,
        shakescenario_port=port,
        shakescenario_folder=workdir.expanduser().absolute(),
    )
    # The agent speaks HTTP with the server; nobody else has to find that port.
    return Place(file.with_name(f"{file.name}-data"), "127.0.0.1", 0, options)


def _greet(call: Invocation, server: ReadyServer, place: Place) -> None:
    """Say where the server is. The first line is what programs wait for."""
    address, token = server.doors[_DOOR], server.services.admin_token_file
    folder = place.options.shakescenario_folder
    if call.screen.as_json:
        known = {"listening": address, "workdir": folder, "data": place.data}
        call.screen.line({**known, "admin_token": token, "http": server.url})
        return
    call.screen.text(f"listening on {address}")
    call.screen.text(f"  jobs         {folder}")
    call.screen.text(f"  data         {place.data}")
    call.screen.text(f"  admin token  {token} (mode 0600)")
    call.screen.text(f"  native API   {server.url}")


if __name__ == "__main__":
    main()
