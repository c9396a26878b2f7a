"""
The agent's work folders: ``WORK/<run>/<attempt>/``, and which of them are unfinished.

Promises: a folder is prepared whole (config.json last, mode 0600) or is not taken for one, also
where the machine lost power before it was on the disk (`runner.flush`); what is unfinished is found
again after any kill, from the disk alone, with what the attempt takes of the machine. A folder that
cannot be read is named and passed over. It deletes nothing but folders that `finish` was told are
delivered whole.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from physicsrunner.agent.spares import Spares
from physicsrunner.errors import InvalidRequest, StorageFull
from physicsrunner.runner.environment import write_private
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.messages import LeaseGrant, Resources

CONFIG: Final = "config.json"
DONE: Final = ".done"  #: holds what became of it


@dataclass(frozen=True)
class Terms:
    """What an agent must know of an attempt besides its work folder."""

    resources: Resources = field(default_factory=Resources)
    stop_when_lost: bool = False


@dataclass(frozen=True)
class Work:
    """One attempt's work folder."""

    root: Path
    run: str
    attempt: int

    @cached_property
    def config(self) -> Path:
        """The runner's configuration."""
        return self.root / CONFIG

    @property
    def key(self) -> tuple[str, int]:
        """Run and attempt."""
        return self.run, self.attempt


def place_of(work: Path, grant: LeaseGrant) -> Work:
    """Return where *grant*'s attempt is carried out."""
    return Work(Path(f"{work}/{grant.run}/{grant.attempt}"), grant.run, grant.attempt)


def prepare(work: Path, grant: LeaseGrant, server: str, spares: Spares | None = None) -> Work:
    """
    Make the work folder of *grant*'s attempt, or find it again, with a fresh token.

    It is one of *spares*, if there are any.

    Raises
    ------
    StorageFull
        The folder cannot be made or written; the message names it.
    """
    found = place_of(work, grant)
    root = found.root
    document = {
        "server": server,
        "run": grant.run,
        "attempt": grant.attempt,
        "token": grant.token,
        "workDir": str(root),
        "name": grant.name,
    }
    try:
        folder = WorkFolder(root)
        if spares is None or not spares.give(str(root)):
            os.makedirs(root, 0o700, exist_ok=True)  # noqa: PTH103 (a Path tries all thrice)
            folder.create()
        # The runner finds the lease as if it had kept it itself; the next agent what it takes.
        write_private(folder.lease, json.dumps(encode(grant)), unread=True)
        write_private(found.config, json.dumps(document))
    except OSError as error:
        raise StorageFull(f"the work folder {root} cannot be written: {error.strerror}") from error
    return found


def terms_in(grant: LeaseGrant) -> Terms:
    """Return what *grant* says of its attempt."""
    return Terms(grant.resources, grant.stop_when_lost)


def terms_of(work: Work) -> Terms:
    """Return what the attempt takes; the least where that cannot be read."""
    try:
        return decode(Terms, json.loads(WorkFolder(work.root).lease.read_text("utf-8")))
    except (OSError, ValueError, InvalidRequest):
        return Terms()


def has_program(work: Work) -> bool:
    """Say whether the attempt's program was started: it may run now."""
    return os.path.exists(f"{work.root}/.physicsrunner/program/pid")  # noqa: PTH110 (never raises)


def unfinished(work: Path, log: logging.Logger | None = None) -> Iterator[Work]:
    """Yield the attempts that were begun and not finished, the oldest first."""
    found = []
    for run in _folders(work, log):
        for root in _folders(run, log):
            config = root / CONFIG
            try:
                if not root.name.isdigit() or (root / DONE).exists():
                    continue
                if not _is_whole(config):
                    _say_torn(log, root)
                    continue
                found.append((config.stat().st_mtime, Work(root, run.name, int(root.name))))
            except FileNotFoundError:
                continue  # it was never prepared whole: its lease is given again, or to another
            except OSError as error:
                _say(log, root, error)
    for _, item in sorted(found, key=lambda pair: pair[0]):
        yield item


def finish(work: Work, outcome: str, *, remove: bool, spares: Spares | None = None) -> None:
    """
    Note that nothing is left to do for *work*.

    *remove* the folder only when all that main.py wrote is on the server. What is left of it then
    may become one of *spares*.
    """
    if remove:
        # Its name says that it is finished before its first file is gone; and no write is needed,
        # which a full disk would refuse.
        if spares is None or not spares.keep(str(work.root)):
            _remove(_set_aside(work.root))
        with suppress(OSError):
            work.root.parent.rmdir()  # of the run, when this was its only attempt here
        return
    with suppress(FileNotFoundError):
        (work.root / DONE).write_text(f"{outcome}\n", encoding="utf-8")


def sweep(work: Path) -> None:
    """Remove what a kill left of folders that were finished."""
    for folder in work.glob("*/.*.done"):
        _remove(str(folder))
        with suppress(OSError):
            folder.parent.rmdir()


def _set_aside(root: Path) -> str:
    aside = root.with_name(f".{root.name}.done")
    try:
        os.rename(root, aside)  # noqa: PTH104 (a Path would be made of its answer)
    except OSError:
        return str(root)
    return str(aside)


def _remove(folder: str) -> None:
    """Remove *folder* with all that is in it, links but not what they lead to."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108 (a Path costs more than the file)
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        # Something is in the way, or somebody is in it still: as far as it goes.
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(config: Path) -> bool:
    """Say whether *config* was on the disk if the machine lost power; its name may be there."""
    try:
        return isinstance(json.loads(config.read_bytes()), dict)
    except ValueError:
        return False


def _folders(parent: Path, log: logging.Logger | None) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if _is_ours(entry)]
    except OSError as error:
        _say(log, parent, error)
        return []


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _say_torn(log: logging.Logger | None, root: Path) -> None:
    if log is not None:
        log.warning(
            "%s is passed over: its %s was not on the disk when this machine lost power, and no "
            "program is started before it is; remove the folder if nothing in it is of use to you",
            root,
            CONFIG,
        )


def _say(log: logging.Logger | None, path: Path, error: OSError) -> None:
    if log is not None:
        log.error(
            "%s cannot be read (%s): what is unfinished there is not taken up; "
            "give this user the right to read it and start the agent again",
            path,
            error.strerror or error,
        )
