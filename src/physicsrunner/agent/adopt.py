"""
The agent's work folders: ``WORK/<run>/<attempt>/``, and which of them are unfinished.

Promises: a folder is prepared whole (config.json last, mode 0600) or is not taken for one; what is
unfinished is found again after any kill, from the disk alone. It deletes nothing but folders that
`finish` was told are delivered whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.wire.messages import LeaseGrant

CONFIG: Final = "config.json"
DONE: Final = ".done"  #: holds what became of it


@dataclass(frozen=True)
class Work:
    """One attempt's work folder."""

    root: Path
    run: str
    attempt: int

    @property
    def config(self) -> Path:
        """The runner's configuration."""
        return self.root / CONFIG


def prepare(work: Path, grant: LeaseGrant, server: str) -> Work:
    """Make the work folder of *grant*'s attempt, or find it again, with a fresh token."""
    root = work / grant.run / str(grant.attempt)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = Work(root, grant.run, grant.attempt)
    document = {
        "server": server,
        "run": grant.run,
        "attempt": grant.attempt,
        "token": grant.token,
        "workDir": str(root),
        "name": grant.name,
    }
    temporary = root / f".{CONFIG}.part"
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(found.config)
    return found


def unfinished(work: Path) -> Iterator[Work]:
    """Yield the attempts that were begun and not finished, the oldest first."""
    found = []
    for config in work.glob(f"*/*/{CONFIG}"):
        root = config.parent
        if root.name.isdigit() and not (root / DONE).exists():
            found.append((config.stat().st_mtime, Work(root, root.parent.name, int(root.name))))
    for _, item in sorted(found, key=lambda pair: pair[0]):
        yield item


def finish(work: Work, outcome: str, *, remove: bool) -> None:
    """
    Note that nothing is left to do for *work*.

    *remove* the folder only when all that main.py wrote is on the server.
    """
    (work.root / DONE).write_text(f"{outcome}\n", encoding="utf-8")
    if remove:
        shutil.rmtree(work.root, ignore_errors=True)
        try:
            work.root.parent.rmdir()  # of the run, when this was its only attempt here
        except OSError:
            return
