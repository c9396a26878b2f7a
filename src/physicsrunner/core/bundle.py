"""
A model's bundle: which files it may hold, and the version that its content has.

Promises: the version depends on the files' names and bytes alone, not on their order, their times
or how the zip was packed; two different contents never get the same one. Pure: hashes are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import InvalidRequest, UnsafeArchive, UnsafePath

MAIN: Final = "main.py"
MAX_FILES: Final = 20_000
MAX_BYTES: Final = 2 * 1024**3  # unpacked
MAX_RATIO: Final = 200  # unpacked to packed, of a file that is over a megabyte


def check_member(name: str, *, mode: int = 0, size: int = 0, packed: int = 0) -> str:
    """
    Return the safe name of an archive's member, otherwise raise `UnsafeArchive`.

    Parameters
    ----------
    mode
        The Unix mode of the member, 0 where the archive has none.
    size, packed
        Bytes unpacked and packed, as the archive declares them.
    """
    kind = (mode >> 12) & 0o17
    if kind not in (0, 0o10, 0o4):  # unknown, regular file, folder
        raise UnsafeArchive(f"{name!r} is a link or a device")
    if size > 1024 * 1024 and size > MAX_RATIO * max(packed, 1):
        raise UnsafeArchive(f"{name!r} would grow {size // max(packed, 1)}-fold when unpacked")
    if "\\" in name:
        raise UnsafeArchive(f"{name!r} has a backslash, which is a folder on some systems")
    try:
        return check_path(name.rstrip("/"))
    except UnsafePath as error:
        raise UnsafeArchive(str(error)) from None


def check_names(names: Iterable[str]) -> None:
    """Raise `InvalidRequest` unless *names* are distinct and ``main.py`` is among them."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UnsafeArchive(f"{name!r} is in the archive twice")
        seen.add(name)
    if len(seen) > MAX_FILES:
        raise UnsafeArchive(f"the archive has {len(seen)} files, over the limit of {MAX_FILES}")
    if MAIN not in seen:
        raise InvalidRequest(f"the bundle has no {MAIN} at its top; that is the file that is run")


def content_version(files: Iterable[tuple[str, str]]) -> str:
    """
    Return the version of a bundle: SHA-256 over its sorted (name, SHA-256 in hex) pairs.

    Examples
    --------
    >>> one = content_version([("a", "0" * 64), ("b", "1" * 64)])
    >>> one == content_version([("b", "1" * 64), ("a", "0" * 64)])
    True
    """
    digest = hashlib.sha256()
    for name, sha256 in sorted(files):
        raw = name.encode()
        # The length first: no name can end where another begins.
        digest.update(f"{len(raw)}:".encode() + raw + bytes.fromhex(sha256))
    return digest.hexdigest()
