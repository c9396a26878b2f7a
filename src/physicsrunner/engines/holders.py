"""
Which folders young processes are in: what a program has left behind may still look at them.

Promises: a process that is younger than the one that is named, and has its working directory or an
open file below the place, is found whatever session, parent or environment it has. Where that
cannot be told (a process of another user, or with mounts of its own) the answer is None, never a
guess. It costs a look at the processes that began since then, not at all there are.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from physicsrunner.engines.processes import ProcessId, begun_since

_MOST: Final = 2_000  # processes that are looked at; where there are more, nobody can say


def held_below(place: str, since: ProcessId) -> set[str] | None:
    """
    Return the names in the folder *place* that processes not older than *since* are in.

    Returns
    -------
    set of str or None
        None: nobody can say.
    """
    pids = begun_since(since, _MOST)
    if pids is None:
        return None
    try:
        mounts = os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
        own = set(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return None
    found: set[str] = set()
    for pid in pids:
        if str(pid) in own:
            continue  # a thread of ours
        try:
            paths = _paths(f"/proc/{pid}", mounts)
        except PermissionError:
            return None
        except OSError:
            continue  # it has ended
        if paths is None:
            return None
        below = place + "/"
        found |= {path[len(below) :].partition("/")[0] for path in paths if path.startswith(below)}
    return found


def _paths(process: str, mounts: str) -> list[str] | None:
    """Return where *process* is and what it has open; None: its paths are not ours."""
    with open(f"{process}/cmdline", "rb") as file:  # noqa: PTH123 (for many processes)
        if not file.read(1):
            return []  # the kernel's own, or one that has ended
    if os.readlink(f"{process}/ns/mnt") != mounts:  # noqa: PTH115
        return None
    found = [os.readlink(f"{process}/cwd")]  # noqa: PTH115
    for name in os.listdir(f"{process}/fd"):  # noqa: PTH208
        with suppress(FileNotFoundError):  # closed again
            found.append(os.readlink(f"{process}/fd/{name}"))  # noqa: PTH115
    return found
