"""
The kernel's file events (inotify), as they come: one descriptor for any number of folders.

Promises: nothing is said of a file's opening, reading or closing; a folder is watched without what
lies below it. A system without inotify, or with none left, raises `OSError` at once.

watchdog does the same for one tree, at fifty times the cost of an event: too much for an agent
whose programs write thousands of lines a second (docs/adr).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from typing import Any, Final, NamedTuple

MODIFY: Final = 0x2
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
IS_FOLDER: Final = 0x40000000
_ONLY_FOLDERS: Final = 0x01000000
_FOLLOW_NO_LINK: Final = 0x02000000
_MASK: Final = MODIFY | MOVED_FROM | MOVED_TO | CREATE | DELETE | _ONLY_FOLDERS | _FOLLOW_NO_LINK
_HEAD: Final = struct.Struct("iIII")
_READ: Final = 1 << 18  # bytes


class Event(NamedTuple):
    """Something happened to *name* in the folder that is watched as *watch*."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """One queue of events."""

    def __init__(self) -> None:
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        self.descriptor = _checked(_libc().inotify_init1(flags))

    def watch(self, folder: str) -> int:
        """Watch *folder*; return the number that its events carry."""
        return _checked(_libc().inotify_add_watch(self.descriptor, os.fsencode(folder), _MASK))

    def forget(self, watch: int) -> None:
        """Watch no more; silent when the folder is gone."""
        _libc().inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[Event]:
        """Return all events that wait."""
        found: list[Event] = []
        while True:
            try:
                data = os.read(self.descriptor, _READ)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                found.append(Event(watch, mask, data[at : at + length].rstrip(b"\0")))
                at += length

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self.descriptor)


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"inotify: {os.strerror(number)}")
    return answer


@cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        raise OSError("there is no inotify on this system")
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        _ = library.inotify_init1, library.inotify_rm_watch
    except AttributeError as error:
        raise OSError(f"there is no inotify on this system: {error}") from error
    return library
