"""
Paths of artifacts: the one place where they are checked, and the one map of their layout.

Promises:

- `check_path` accepts a relative POSIX path that stays inside its folder and that the file
  system can hold, and raises `UnsafePath` for everything else.
- `artifact_path` maps a path of the work folder to the path on the server (section 7.2 of the
  simulation manager's document) and never maps two different paths to the same one.

Names with spaces, quotes, emoji and newlines are good names. This module never touches a disk.
"""

from __future__ import annotations

import re
from typing import Final

from physicsrunner.errors import UnsafePath

MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255  # of Linux file systems

#: The folders of a work folder, relative to it.
WORK_FOLDERS: Final = (
    "debug",
    "inputs",
    "outputs",
    "outputs/files",
    "outputs/graphics",
    "outputs/logs",
    "outputs/media",
    "outputs/plots",
    "raw",
    "scripts",
)

# First match wins. Everything else below outputs/ keeps its name.
_LAYOUT: Final = (
    ("outputs/logs/", "logs/"),
    ("outputs/files/", "outputs/data_files/"),
    ("debug/", "metadata/debug/"),
)
# What main.py itself calls outputs/data_files must not fall onto outputs/files, nor what it calls
# metadata/debug onto debug/: such names get one more underscore.
_TAKEN: Final = re.compile(r"\A(outputs/data_files|metadata/debug)(_*)(?=/|\Z)")
_NO_NAMES: Final = frozenset({"", ".", ".."})
_ESCAPE: Final = "\N{REPLACEMENT CHARACTER}"


def check_path(path: str) -> str:
    """
    Return *path* if it is a safe relative POSIX path, otherwise raise `UnsafePath`.

    Refused: empty, absolute, a component that is empty, ``.`` or ``..``, a NUL, names over
    255 bytes and paths over 1,024 bytes, and text that is not valid Unicode.
    """
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise UnsafePath(f"{path!r} is not valid Unicode") from None
    if not path or path.startswith("/") or "\0" in path or len(raw) > MAX_PATH_BYTES:
        raise UnsafePath(f"{path!r} is not a relative path of 1 to {MAX_PATH_BYTES} bytes")
    short = len(raw) <= MAX_NAME_BYTES  # then no name is longer either
    for name in path.split("/"):
        if name in _NO_NAMES or not (short or len(name.encode()) <= MAX_NAME_BYTES):
            raise UnsafePath(f"{path!r} has the component {name[:80]!r}, which is not allowed")
    return path


def printable(path: str) -> str:
    """
    Return *path* as valid Unicode: a byte that is not UTF-8 becomes U+FFFD and its two hex digits.

    Python shows such bytes of a file name as lone surrogates (PEP 383), which neither JSON
    readers nor databases take. U+FFFD itself is doubled, so that no two names become one; all
    other names stay as they are.

    Examples
    --------
    >>> printable("na\\udcefve") == "na\\ufffdEFve"
    True
    """
    if path.isascii():
        return path
    path = path.replace(_ESCAPE, _ESCAPE * 2)
    return "".join(
        f"{_ESCAPE}{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char
        for char in path
    )


def artifact_path(path: str) -> str:
    """
    Return the path on the server of a file of the work folder.

    Parameters
    ----------
    path
        Relative to the work folder, POSIX, below ``outputs/``, ``debug/`` or ``metadata/``.

    Examples
    --------
    >>> artifact_path("outputs/logs/main.log")
    'logs/main.log'
    >>> artifact_path("outputs/files/u.vtu"), artifact_path("outputs/data_files/u.vtu")
    ('outputs/data_files/u.vtu', 'outputs/data_files_/u.vtu')
    """
    path = printable(path)
    for prefix, target in _LAYOUT:
        if path.startswith(prefix):
            return target + path[len(prefix) :]
    return _TAKEN.sub(r"\1\2_", path)
