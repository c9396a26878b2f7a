"""
From one file that is out of step to its operations, and from their results back to what is known.

Promises: `prepare` reads what it needs and changes nothing of the entry; `settle` is called under
the owner's lock and does no I/O. What is sealed was read under one stamp: the same before the
first byte and after the last one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from physicsrunner.client.uplink import Outgoing, Uplink
from physicsrunner.core.sync import Kind, Known, Move, Piece, Stamp, block_size, plan, plan_blocks
from physicsrunner.errors import (
    DigestMismatch,
    NotAuthenticated,
    OffsetMismatch,
    StorageFull,
)
from physicsrunner.runner.sync_book import SMALL, Book, Entry
from physicsrunner.runner.sync_disk import (
    block_hashes,
    opened,
    prints_of,
    prints_of_bytes,
    read,
    stamp_of,
)
from physicsrunner.wire.messages import SyncOp, SyncResult

SOURCE_CHANGED: Final = "source_changed"
#: Seconds without a comparison after one that took a second: a file that is rewritten all the
#: time must not keep both sides reading it.
_COMPARE_SHARE: Final = 10.0
#: Bytes. A file that goes in several frames is cut at multiples of this: a server that writes past
#: its page cache can only do so from there on.
ROUND: Final = 1 << 20


@dataclass
class Prepared:
    """One file's part of a frame."""

    book: Book
    entry: Entry
    source: Path
    ops: list[Outgoing] = field(default_factory=list)
    after: Known | None = None  #: what is known when all operations were carried out
    seal: Stamp | None = None  #: the stamp that was sealed
    stamp: Stamp | None = None  #: what the open file showed
    hash_it: bool = False  #: the whole file's SHA-256 is wanted before it can be sealed
    compared: bool = False
    changed: bool = False  #: it changed while it was read: look again
    put_off: bool = False  #: it was compared not long ago: not before `Entry.compare_after`
    problem: str | None = None  #: it cannot be read

    @property
    def whole(self) -> bool:
        """Whether the file is sealed when the operations have gone well."""
        doubtful = self.changed or self.hash_it or self.put_off or self.problem is not None
        return self.seal is not None and not doubtful

    @property
    def count(self) -> int:
        """Bytes that this part carries."""
        return sum(item.op.length or 0 for item in self.ops)


class Preparer:
    """Makes the operations of files. May be used by several threads."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._can_write = {"write", "truncate"} <= uplink.operations

    def prepare(
        self, book: Book, entry: Entry, *, budget: int, memory: int, now: float
    ) -> Prepared:
        """
        Plan one file and read what goes along (its bytes, when it is small).

        *budget* is the most bytes of an append; the rest goes with a later frame. At most *memory*
        bytes are read here, unless the file is small and about to be sealed. Raises what the
        uplink raises when it is asked for block hashes.
        """
        out = Prepared(book, entry, Path(entry.local))
        try:
            with opened(entry.local) as (fd, stamp):
                out.stamp = stamp
                out.changed = stamp != entry.stamp
                if book.finishing is not None and stamp.size <= SMALL:
                    self._small(out, fd, stamp)
                else:
                    self._large(out, fd, stamp, budget, memory, now)
        except FileNotFoundError:
            out.changed = True
            out.ops.clear()
        except OSError as error:
            # ELOOP: a link took its place since it was looked at; the next look tells.
            out.problem = f"{entry.relative}: {error.strerror or error}"
            out.ops.clear()
        return out

    def _small(self, out: Prepared, fd: int, stamp: Stamp) -> None:
        """Read a small file whole; send what is missing and seal it, in one frame."""
        entry, known = out.entry, out.entry.known
        data = read(fd, 0, stamp.size)
        if len(data) != stamp.size or stamp_of(os.fstat(fd)) != stamp:
            out.changed = True
            return
        sha = hashlib.sha256(data).hexdigest()
        out.seal = stamp
        if known is not None and known.sealed == sha and known.size == stamp.size:
            out.after = replace(known, file=stamp.file, stamp=stamp)
            return
        prints = None
        if known is not None and known.prints is not None and known.size <= stamp.size:
            prints = prints_of_bytes(data, known.size)
        move = plan(known, stamp, prints, doubt=entry.doubt, can_write=self._can_write)
        if move.kind is Kind.COMPARE:
            self._compare(out, fd, stamp)
        else:
            self._bytes(out, move, stamp, data)
        self._seal(out, stamp, sha)
        out.after = Known(stamp.size, sha, stamp.file, prints_of_bytes(data, stamp.size), stamp)

    def _large(
        self, out: Prepared, fd: int, stamp: Stamp, budget: int, memory: int, now: float
    ) -> None:
        """Send a file's new or changed bytes from the disk; seal it when its hash is there."""
        entry, known = out.entry, out.entry.known
        size, prints = stamp.size, None
        if known is not None and known.prints is not None and known.size <= size:
            prints = prints_of(fd, known.size)
        move = plan(known, stamp, prints, doubt=entry.doubt, can_write=self._can_write)
        again = move.kind is Kind.COMPARE or (move.kind is Kind.REWRITE and size > SMALL)
        if again and now < entry.compare_after and out.book.finishing is None:
            out.put_off = True
            return
        if move.kind is Kind.COMPARE:
            self._compare(out, fd, stamp)
        else:
            out.compared = again
            length = min(move.length, max(budget, 1))
            over = (move.offset + length) % ROUND
            if move.kind is Kind.REWRITE and self._can_write:
                length = move.length
            elif length < move.length and length > over:
                length -= over
            move = replace(move, length=length)
            data = read(fd, move.offset, length) if length <= memory else None
            if data is not None and len(data) < length:
                out.changed = True
                return
            if move.kind is not Kind.NOTHING:
                self._bytes(out, move, stamp, data, start=move.offset)
                size = move.offset + length
        out.after = Known(
            size, None, stamp.file, prints_of(fd, size), stamp if size == stamp.size else None
        )
        if book_wants_seal(out.book) and size == stamp.size:
            self._seal_large(out, stamp)

    def _seal_large(self, out: Prepared, stamp: Stamp) -> None:
        entry, known = out.entry, out.entry.known
        if entry.digest is None or entry.digest[0] != stamp:
            out.hash_it = True
            return
        sha = entry.digest[1]
        out.seal = stamp
        if out.after is not None:
            out.after = replace(out.after, sealed=sha)
        if not out.ops and known is not None and known.sealed == sha:
            return
        self._seal(out, stamp, sha)

    def _bytes(
        self, out: Prepared, move: Move, stamp: Stamp, data: bytes | None, *, start: int = 0
    ) -> None:
        """Add the operations of an append or a rewrite. *data* begins at byte *start*."""
        entry, known = out.entry, out.entry.known
        if move.kind is Kind.NOTHING:
            return
        if move.kind is Kind.APPEND or not self._can_write:
            pieces = [Piece("append", move.offset, move.length)]
        else:
            pieces = [Piece("write", 0, move.length)] if move.length else []
            if known is not None and known.size > stamp.size:
                pieces.append(Piece("truncate", stamp.size))
        self._pieces(out, pieces, entry, data, start)

    def _compare(self, out: Prepared, fd: int, stamp: Stamp) -> None:
        """Ask for the stored blocks' hashes, and send the blocks that differ."""
        book, entry = out.book, out.entry
        block = block_size(stamp.size)
        stored = self._uplink.blocks(book.run, book.attempt, entry.path, block)
        local = block_hashes(fd, stamp.size, stored.block_size)
        pieces = plan_blocks(stored.size, stored.hashes, stamp.size, local, stored.block_size)
        out.compared = True
        self._pieces(out, pieces, entry, None, 0)

    def _pieces(
        self,
        out: Prepared,
        pieces: Sequence[Piece],
        entry: Entry,
        data: bytes | None,
        start: int,
    ) -> None:
        run, attempt = out.book.key
        for piece in pieces:
            if piece.op == "truncate":
                op = SyncOp(run, attempt, entry.path, "truncate", size=piece.offset)
                out.ops.append(Outgoing(op))
                continue
            op = SyncOp(
                run, attempt, entry.path, piece.op, offset=piece.offset, length=piece.length
            )
            begin = piece.offset - start
            cut = None if data is None else data[begin : begin + piece.length]
            out.ops.append(Outgoing(op, data=cut, source=out.source))

    def _seal(self, out: Prepared, stamp: Stamp, sha: str) -> None:
        run, attempt = out.book.key
        op = SyncOp(run, attempt, out.entry.path, "seal", size=stamp.size, sha256=sha)
        out.ops.append(Outgoing(op, source=out.source))


def book_wants_seal(book: Book) -> bool:
    """Whether files of this attempt are to be sealed now."""
    return book.finishing is not None


def settle(part: Prepared, results: Sequence[SyncResult], now: float, took: float) -> bool:
    """
    Take the results of one file's operations; return whether all went well.

    After a refusal the entry says what is to be done about it: ``doubt`` (compare), another known
    size, or ``lost`` (ask the server's list).
    """
    entry = part.entry
    if part.compared:
        entry.compare_after = now + max(1.0, _COMPARE_SHARE * took)
    for result in results:
        if result.error is not None:
            _refused(part, result)
            return False
    entry.known = part.after
    entry.doubt = False
    entry.tries = 0
    entry.problem = None
    if part.seal is not None:
        entry.sealed = part.seal
    if part.stamp is not None and entry.stamp is not None:
        entry.stamp = part.stamp  # where it is out of date again, the next look says so
    part.book.bytes_sent += part.count
    return True


def _refused(part: Prepared, result: SyncResult) -> None:
    entry, error = part.entry, result.error
    entry.tries += 1
    entry.problem = f"{entry.relative}: {result.detail or error}"
    if error == OffsetMismatch.code:
        file = entry.known.file if entry.known is not None else None
        entry.known = Known(result.offset, file=file)
        # The same size named twice: something else is wrong with it. Ask for everything.
        entry.lost = entry.tries > 2
    elif error == DigestMismatch.code:
        entry.known = replace(part.after, sealed=None) if part.after is not None else None
        entry.doubt = True
        entry.digest = None
    elif error == SOURCE_CHANGED:
        entry.known = replace(part.after, prints=None, stamp=None) if part.after else None
        entry.doubt = True
        entry.tries = 0
    else:
        entry.lost = True


#: Refusals of one operation that end when the circumstances do.
PASSING: Final = frozenset({StorageFull.code, NotAuthenticated.code, SOURCE_CHANGED})
