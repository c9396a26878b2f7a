"""`physicsrunner admin`: care for a server's data, on its own machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from physicsrunner import __version__
from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.server import server_extra
from physicsrunner.cli.tables import size
from physicsrunner.errors import NotFound, UsageError

if TYPE_CHECKING:
    from physicsrunner.service.check import Found
    from physicsrunner.store.database import Database

_ACTIONS: Final = ("backup", "restore", "check", "vacuum")
_SHOWN: Final = 20  # lines of each kind; --json has all of them


@make_command("admin", server=False)
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of runs, files and database.",
)
@click.option("--repair", is_flag=True, help="check: remove what the database does not know.")
def command(
    call: Invocation, action: str, place: Path | None, data: Path | None, repair: bool
) -> int:
    """
    Save, restore or check the data of a server of this machine.

    \b
    physicsrunner admin backup PLACE    save all, also while the server runs; PLACE is
                                        a new folder, or a new .tar or .tar.gz file
    physicsrunner admin restore PLACE   make the data folder (it must be empty) from it
    physicsrunner admin check           compare the database with the files, by digest
    physicsrunner admin vacuum          give room in the database back to the disk

    The database is that of the setting `database`, else the data folder's own. `check` ends with 1
    when something is missing, changed or orphaned.
    """
    with server_extra():  # of the server no more than this: a start of all of it takes a second
        from physicsrunner.service import backup, check  # noqa: F401
        from physicsrunner.store import upkeep  # noqa: F401
    data = (data or call.settings.data).expanduser().absolute()
    if (place is None) == (action in ("backup", "restore")):
        wanted = "needs a PLACE" if place is None else "takes no PLACE"
        raise UsageError(f"physicsrunner admin {action} {wanted}")
    if repair and action != "check":
        raise UsageError("--repair belongs to `physicsrunner admin check`")
    if place is not None:
        place = place.expanduser().absolute()
        (_backup if action == "backup" else _restore)(call, place, data)
        return 0
    if action == "vacuum":
        _vacuum(call, data)
        return 0
    return _check(call, data, repair=repair)


def _backup(call: Invocation, place: Path, data: Path) -> None:
    from physicsrunner.service.backup import backup

    made = backup(
        data, place, database=call.settings.database, now=time.time(), version=__version__
    )
    if call.as_json:
        call.screen.document(vars(made))
        return
    call.screen.text(f"saved {made.runs} runs and {made.files} files ({size(made.bytes)})")
    call.screen.text(f"  in {place}: it holds the server's keys; keep it private")


def _restore(call: Invocation, place: Path, data: Path) -> None:
    from physicsrunner.service.backup import restore

    made = restore(place, data, database=call.settings.database)
    if call.as_json:
        call.screen.document({**vars(made), "data": data})
        return
    call.screen.text(f"restored {made.runs} runs and {made.files} files ({size(made.bytes)})")
    call.screen.text(f"  to {data}; `physicsrunner admin check` compares them")


def _check(call: Invocation, data: Path, *, repair: bool) -> int:
    from physicsrunner.service.check import check, remove_orphans

    with _database(call, data) as database:
        found = check(data, database, now=time.time())
        if repair:
            remove_orphans(data, database, found, now=time.time())
    if call.as_json:
        call.screen.document({**vars(found), "good": found.good})
    else:
        _show(call, found)
    return 0 if found.good else 1


def _show(call: Invocation, found: Found) -> None:
    screen = call.screen
    for title, lines in (
        ("wrong in the database", found.database),
        ("missing", found.missing),
        ("changed", found.changed),
        ("orphaned", found.orphaned),
        ("removed", found.removed),
    ):
        if lines:
            screen.text(f"{title}: {len(lines)}")
        for line in lines[:_SHOWN]:
            screen.text(f"  {line}")
        if len(lines) > _SHOWN:
            screen.text(f"  ... and {len(lines) - _SHOWN} more; --json has all")
    word = "all is as the database says" if found.good else "not all is as it should be"
    screen.text(f"{found.files} files ({size(found.bytes)}) compared: {word}")
    if set(found.orphaned) - set(found.removed):
        screen.text("  `physicsrunner admin check --repair` removes what is orphaned")


def _vacuum(call: Invocation, data: Path) -> None:
    from physicsrunner.store.upkeep import vacuum

    with _database(call, data) as database:
        before, after = vacuum(database)
    if call.as_json:
        call.screen.document({"before": before, "after": after})
    else:
        call.screen.text(f"the database has {size(after)} now, {size(before)} before")


@contextmanager
def _database(call: Invocation, data: Path) -> Iterator[Database]:
    from physicsrunner.service.backup import DATABASE
    from physicsrunner.store.database import Database

    url = call.settings.database
    if url is None and not (data / DATABASE).is_file():
        raise NotFound(f"there is no database in {data}; --data names the server's data folder")
    with closing(Database(url or f"sqlite:///{data / DATABASE}")) as database:
        yield database
