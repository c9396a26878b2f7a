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
    ("metadata/", "metadata/"),
)
# A folder that main.py itself calls outputs/data_files must not fall onto outputs/files.
_TAKEN: Final = re.compile(r"outputs/(data_files_*)(?=/|$)")


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
    for name in path.split("/"):
        if name in ("", ".", "..") or len(name.encode()) > MAX_NAME_BYTES:
            raise UnsafePath(f"{path!r} has the component {name[:80]!r}, which is not allowed")
    return path


def printable(path: str) -> str:
    """
    Return *path* as valid Unicode: bytes that are not UTF-8 become ``%XX``.

    Python shows such bytes of a file name as lone surrogates (PEP 383), which neither JSON
    readers nor databases take. A ``%`` of such a name becomes ``%25``.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return "".join(
            f"%{ord(char) - 0xDC00:02X}"
            if "\udc80" <= char <= "\udcff"
            else "%25"
            if char == "%"
            else char
            for char in path
        )
    return path


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
    return _TAKEN.sub(lambda match: f"outputs/{match[1]}_", path, count=1)
