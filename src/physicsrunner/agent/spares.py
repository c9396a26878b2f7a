"""
The emptied folders of attempts that are over, for the attempts that come.

An attempt has a tree of folders, and a file system takes as long to make and to remove them as a
short run's agent takes for all the rest. So the tree of one that was delivered whole is emptied,
put aside in ``WORK/.spare`` and renamed into place for a later one.

Promises:

- Nothing of one run is seen by another: a tree is given only when nobody is in it who could have
  come from the run that it was made for (`engines.holders`), and when it was then found to be what
  a fresh one is: these folders, empty, of this owner, with these modes, and nothing else. Whatever
  else it is, and wherever that cannot be told, it is removed. A folder that was found so, and that
  nobody has touched since by its times, is not listed again.
- Putting aside is one rename, and so is giving: a kill at any moment leaves an attempt's folder as
  it was or none, and what is in ``.spare`` is taken for no attempt. The next start removes it.
- There are never more than `MOST`.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

from physicsrunner.core.paths import WORK_FOLDERS
from physicsrunner.engines.holders import held_below
from physicsrunner.engines.processes import ProcessId, boot_id, parse_process_id

MOST: Final = 64
_TOGETHER: Final = 8  # that are looked at by one look at the processes
_PROGRAM: Final = ".physicsrunner/program"
_TREE: Final = ("", *WORK_FOLDERS, "metadata", ".physicsrunner", _PROGRAM)
_PRIVATE: Final = frozenset({"", ".physicsrunner"})  # mode 0700
_PRIVATE_MODE: Final = 0o700
Held = Callable[[str, ProcessId], "set[str] | None"]

_ENTRY: Final = 4096  # bytes of a folder with few names in most file systems
_TICK_NS: Final = 50_000_000  # a file system's clock may stand still for as long
_GIVEN: Final = 1024  # trees under way of which is known what was found in them

_Stamp = tuple[int, int, int]  # inode, and when names and all else last changed, nanoseconds


def _children() -> dict[str, frozenset[str]]:
    """Return the names that each folder of a fresh tree has in it."""
    found: dict[str, set[str]] = {folder: set() for folder in _TREE}
    for folder in _TREE[1:]:
        parent, _, name = folder.rpartition("/")
        found[parent].add(name)
    return {folder: frozenset(names) for folder, names in found.items()}


_CHILDREN: Final = _children()


@dataclass(frozen=True)
class _Aside:
    """A tree that was emptied, and the program that was the first to be in it."""

    name: str
    since: ProcessId
    untouched: dict[str, _Stamp]  #: its folders that are as they were found


class Spares:
    """
    The spare trees of the agent's folder *work*. Any thread may call.

    `start` is called before any attempt is under way. *held* says who is in which of them.
    """

    def __init__(self, work: str, held: Held = held_below) -> None:
        self._held = held
        self._place = f"{work}/.spare"
        self._guard = threading.Lock()
        self._numbers = count()
        self._emptied: list[_Aside] = []
        self._ready: list[tuple[str, dict[str, _Stamp]]] = []
        self._given: dict[str, dict[str, _Stamp]] = {}
        self._fresh: os.stat_result | None = None  #: what a folder is that was just made
        self._labels: frozenset[str] = frozenset()

    def start(self) -> None:
        """Remove what an earlier process left, and begin to keep spares, if that is possible."""
        with self._guard:
            shutil.rmtree(self._place, ignore_errors=True)
            with suppress(OSError):
                os.mkdir(self._place)  # noqa: PTH102
                fresh = os.lstat(self._place)
                self._labels = _labels(self._place)
                os.chmod(self._place, _PRIVATE_MODE)  # noqa: PTH101
                self._fresh = fresh

    def close(self) -> None:
        """Remove all, and keep none any more."""
        with self._guard:
            self._fresh = None
            self._emptied, self._ready = [], []
            shutil.rmtree(self._place, ignore_errors=True)

    def keep(self, root: str) -> bool:
        """
        Put the folder of an attempt that is over aside, and empty it.

        Returns
        -------
        bool
            Whether it is gone from *root*; else it is as it was.
        """
        since = _program(root)
        with self._guard:
            if self._fresh is None or since is None:
                return False
            if len(self._emptied) + len(self._ready) >= MOST:
                return False
            name = f"{self._place}/{next(self._numbers)}"
            untouched = self._given.pop(root, {})
        try:
            os.rename(root, name)  # noqa: PTH104
        except OSError:
            return False
        if not _empty(name, "", untouched):
            shutil.rmtree(name, ignore_errors=True)
            return True
        with self._guard:
            if self._fresh is not None:
                self._emptied.append(_Aside(name, since, untouched))
        return True

    def give(self, root: str) -> bool:
        """Make a spare tree the folder *root*; False: there is none, and nothing has changed."""
        with self._guard:
            if not self._ready:
                self._look()
            if not self._ready:
                return False
            name, found = self._ready.pop()
        parent = os.path.dirname(root)  # noqa: PTH120
        try:
            with suppress(FileExistsError):
                os.mkdir(parent)  # noqa: PTH102
            os.rename(name, root)  # noqa: PTH104
        except OSError:
            # It is there already, and has something in it: the attempt was begun before.
            shutil.rmtree(name, ignore_errors=True)
            return False
        with self._guard:
            if len(self._given) >= _GIVEN:
                self._given.clear()  # mostly of such as were not kept
            self._given[root] = found
        return True

    def _look(self) -> None:
        """Find out which of those that were emptied can be given, and remove the others."""
        if len(self._emptied) < _TOGETHER:
            return
        emptied, self._emptied = self._emptied, []
        first = min((each.since for each in emptied), key=lambda process: process.start)
        held = self._held(self._place, first)
        for each in emptied:
            own = os.path.basename(each.name)  # noqa: PTH119
            free = held is not None and own not in held
            found = self._pristine(each.name, each.untouched) if free else None
            if found is not None:
                self._ready.append((each.name, found))
            else:
                shutil.rmtree(each.name, ignore_errors=True)

    def _pristine(self, root: str, untouched: dict[str, _Stamp]) -> dict[str, _Stamp] | None:
        """
        Look whether the tree is what a fresh one is; None: no.

        Returns
        -------
        dict
            Of each folder that will show it when somebody touches it, what it is now. One that was
            touched just now could be touched again at the same time by a clock that ticks.
        """
        fresh = self._fresh
        if fresh is None:
            return None
        mode = fresh.st_mode
        private = mode & ~0o777 | _PRIVATE_MODE
        stamps: dict[str, _Stamp] = {}
        try:
            settled = os.lstat(self._place).st_mtime_ns - _TICK_NS  # by the same clock
            for folder, names in _CHILDREN.items():
                path = f"{root}/{folder}" if folder else root
                found = os.lstat(path)
                stamp = _stamp(found)
                if max(stamp[1:]) < settled:
                    stamps[folder] = stamp
                if untouched.get(folder) == stamp:
                    continue
                if (
                    found.st_mode != (private if folder in _PRIVATE else mode)
                    or (found.st_uid, found.st_gid) != (fresh.st_uid, fresh.st_gid)
                    or found.st_dev != fresh.st_dev
                    or found.st_size > max(fresh.st_size, _ENTRY)
                    or frozenset(os.listdir(path)) != names  # noqa: PTH208
                    or _labels(path) != self._labels
                ):
                    return None
        except OSError:
            return None
        return stamps


def _program(root: str) -> ProcessId | None:
    """Return the shim that has run in *root*; None: that cannot be told."""
    try:
        with open(f"{root}/{_PROGRAM}/pid", "rb", buffering=0) as file:  # noqa: PTH123
            found = parse_process_id(file.read(200).decode("ascii"))
    except (OSError, ValueError):
        return None
    return found if found is not None and found.boot == boot_id() else None


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _empty(root: str, folder: str, untouched: dict[str, _Stamp]) -> bool:
    """
    Remove what a fresh tree has not; say whether it went.

    Folders that are not *untouched* any more are taken out of it.
    """
    names = _CHILDREN[folder]
    path = f"{root}/{folder}" if folder else root
    try:
        if folder in untouched:
            if untouched[folder] == _stamp(os.lstat(path)):
                below = (f"{folder}/{name}" if folder else name for name in names)
                return all(_empty(root, each, untouched) for each in below)
            del untouched[folder]
        with os.scandir(path) as found:
            entries = list(found)
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and entry.name in names:
                if not _empty(root, f"{folder}/{entry.name}" if folder else entry.name, untouched):
                    return False
            elif is_folder:
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108
    except OSError:
        return False
    return True


def _labels(path: str) -> frozenset[str]:
    """Return the names of the extended attributes: access lists are among them."""
    listed = getattr(os, "listxattr", None)  # Linux alone has it
    try:
        return frozenset() if listed is None else frozenset(listed(path, follow_symlinks=False))
    except OSError:
        return frozenset()  # this file system has none
