"""
What to send: given what the server has and what the disk shows, which operations?

Promises:

- A file that grew and whose head and end are as they were: only its new bytes are sent.
- A file that was rewritten (a new inode, a shrink, other bytes in its head or at the end of what
  was sent) is compared block by block; only blocks that differ are sent.
- A file in doubt is never believed equal: `plan` says that it must be compared, and the seal
  compares the SHA-256 of the whole in the end.

Offsets and sizes are in bytes. This module never reads a file, a clock or a socket.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

#: Bytes at the head, and at the end of what was sent, that are looked at for a rewrite.
PRINT_BYTES: Final = 4096
#: Files up to so many bytes are sent again whole: comparing would cost as much.
WHOLE_BYTES: Final = 64 * 1024
MIN_BLOCK: Final = 64 * 1024
#: Hashes in one answer to a comparison, about.
MAX_BLOCKS: Final = 4096


class Stamp(NamedTuple):  # a tuple, because a scan makes one for every file
    """What `stat` says of a file. Two equal stamps: the same file, unchanged (but see `racy`)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def file(self) -> tuple[int, int]:
        """Device and inode: which file it is, whatever its name."""
        return self.device, self.inode

    def same_content(self, other: Stamp | None) -> bool:
        """Whether nothing but the name or the mode can have changed between the two."""
        return other is not None and self[:4] == other[:4]


class Prints(NamedTuple):
    """Fingerprints of the first and of the last `PRINT_BYTES` of a file's first *size* bytes."""

    size: int
    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class Known:
    """
    What the sender knows of one stored file.

    After a restart or a lost answer only `size` is known (of the server's list), and `sealed`.
    """

    size: int
    sealed: str | None = None  #: SHA-256 of a sealed file
    file: tuple[int, int] | None = None  #: device and inode of the file that these bytes are of
    prints: Prints | None = None  #: of the stored bytes, as they were read
    stamp: Stamp | None = None  #: of the file when all of it was stored


class Kind(str, Enum):
    """What is to be done with one file."""

    NOTHING = "nothing"
    APPEND = "append"  #: the bytes from `Move.offset` on are new
    REWRITE = "rewrite"  #: write the whole file again, it is small (or the wire cannot compare)
    COMPARE = "compare"  #: ask for block hashes, then `plan_blocks`


@dataclass(frozen=True)
class Move:
    """The plan for one file. ``[offset, offset + length)`` is to be sent."""

    kind: Kind
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class Piece:
    """One operation of a repair: ``write`` or ``append`` of a range, ``truncate`` to *offset*."""

    op: str
    offset: int
    length: int = 0


def plan(
    known: Known | None,
    stamp: Stamp,
    prints: Prints | None = None,
    *,
    doubt: bool = False,
    can_write: bool = True,
) -> Move:
    """
    Say what has to be done so that the server has what the disk has.

    Parameters
    ----------
    known
        What the server has; None: nothing of this file.
    stamp
        What the disk shows.
    prints
        Of the first ``known.size`` bytes on the disk; None where they were not read.
    doubt
        The stored bytes are known to be wrong, or may be (a digest that did not match).
    can_write
        Whether the wire can overwrite and truncate. Otherwise a file is sent again whole.
    """
    if known is None:
        return Move(Kind.APPEND, 0, stamp.size)
    if doubt or _rewritten(known, stamp, prints):
        if stamp.size <= WHOLE_BYTES or not can_write:
            return Move(Kind.REWRITE, 0, stamp.size)
        return Move(Kind.COMPARE)
    if known.size < stamp.size:
        return Move(Kind.APPEND, known.size, stamp.size - known.size)
    return Move(Kind.NOTHING, known.size)


def _rewritten(known: Known, stamp: Stamp, prints: Prints | None) -> bool:
    if known.size > stamp.size:
        return True
    if known.file is not None and known.file != stamp.file:
        return True
    if known.prints is not None and prints is not None and known.prints != prints:
        return True
    # The same length and yet touched: only a comparison tells. Of a file whose stamp is not
    # known (after a restart) the seal decides.
    return (
        known.size == stamp.size and known.stamp is not None and not stamp.same_content(known.stamp)
    )


def block_size(size: int) -> int:
    """Return the bytes of a block for comparing a file of *size* bytes: a power of two."""
    block = MIN_BLOCK
    while block * MAX_BLOCKS < size:
        block *= 2
    return block


def plan_blocks(
    stored_size: int, stored: Sequence[str], local_size: int, local: Sequence[str], block: int
) -> tuple[Piece, ...]:
    """
    Plan the repair of a stored file, given both sides' hashes of its blocks.

    Parameters
    ----------
    stored_size, local_size
        Bytes on the server and on the disk.
    stored, local
        Hashes of the blocks of *block* bytes; the last block of each may be shorter.

    Returns
    -------
    tuple of Piece
        Neighbouring blocks are joined. After all of them, in order, the stored file equals the
        local one (if the hashes were of these files).
    """
    pieces: list[Piece] = []
    if stored_size > local_size:
        # Cut first: a block that was longer on the server has another hash and is sent below.
        pieces.append(Piece("truncate", local_size))
    common = min(stored_size, local_size)
    start: int | None = None
    for index in range(-(-common // block)):
        whole = min((index + 1) * block, common)
        equal = index < len(stored) and index < len(local) and stored[index] == local[index]
        if not equal and start is None:
            start = index * block
        if equal and start is not None:
            pieces.append(Piece("write", start, index * block - start))
            start = None
        if start is not None and whole == common:
            pieces.append(Piece("write", start, common - start))
    if local_size > common:
        pieces.append(Piece("append", common, local_size - common))
    return tuple(pieces)


def plan_renames(
    gone: Mapping[str, Known], new: Mapping[str, Stamp], taken: Collection[str] = ()
) -> tuple[tuple[str, str], ...]:
    """
    Find files that were renamed: gone under one name, there under another with the same inode.

    Parameters
    ----------
    gone
        Stored files whose name is no longer on the disk.
    new
        Files on the disk of which nothing is stored, or something of another inode.
    taken
        Paths that still hold something else on the server and will keep it for now.

    Returns
    -------
    tuple of (from, to)
        In an order in which no target holds a file that is still to be moved away; a circle
        (two names exchanged) is left out, and its files are compared instead. A name that
        becomes a folder of the other cannot be renamed in one step, and is left out too.
    """
    by_file: dict[tuple[int, int], str] = {}
    for path, known in gone.items():
        if known.file is not None and known.size > 0:
            by_file.setdefault(known.file, path)
    pairs: dict[str, str] = {}
    for path, stamp in new.items():
        source = by_file.get(stamp.file)
        if source is None or source in pairs or source == path or path in taken:
            continue
        nested = path.startswith(f"{source}/") or source.startswith(f"{path}/")
        if stamp.size >= gone[source].size and not nested:
            pairs[source] = path
    ordered: list[tuple[str, str]] = []
    while True:
        free = [pair for pair in pairs.items() if pair[1] not in pairs]
        if not free:
            return tuple(ordered)
        for source, path in free:
            ordered.append((source, path))
            del pairs[source]


def racy(stamp: Stamp, read_at: float, granularity: float = 0.02) -> bool:
    """
    Whether a change right after the read could leave the same stamp.

    Time stamps of Linux advance with the timer (4 or 10 ms). A file that changed less than
    *granularity* seconds before it was read at *read_at* (POSIX seconds) may change again and
    show the same stamp. A stamp from the future is another machine's clock and proves nothing
    either way; it is taken as it is.
    """
    age = read_at - stamp.ctime_ns / 1e9
    return -1.0 < age < granularity


def overlap(known: Known, stored_size: int) -> Known:
    """Return *known* after the server named another size: only identity stays believed."""
    return Known(size=stored_size, file=known.file)
