"""
What is gone, renamed or in the way, told to the server before any bytes.

Promises: a rename finds its source, and its target is free; what is gone is removed; a file that
was replaced by another inode and not moved elsewhere is compared like any other. What the server
refuses for good is asked for a few times and then left: a file that it keeps although it is gone
here holds up nothing, one that it cannot rename is sent anew. Every function is called under the
owner's lock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from physicsrunner.runner.sync_book import FINAL, REFUSALS, Book, Entry
from physicsrunner.runner.sync_queue import FRAME_FILES, Queues
from physicsrunner.wire.messages import SyncOp, SyncResult


@dataclass
class Moves:
    """One frame of removals and renames of one attempt."""

    book: Book
    pairs: Sequence[tuple[Entry, Entry]] = ()
    gone: Sequence[Entry] = ()
    leftovers: Sequence[str] = ()
    room: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A target that holds something and is not moved away itself has to make room.
        sources = {source.relative for source, _ in self.pairs}
        self.room = [
            target.path
            for _, target in self.pairs
            if target.known is not None and target.relative not in sources
        ]

    @property
    def entries(self) -> list[Entry]:
        """All files that take part, each once."""
        paired = (entry for pair in self.pairs for entry in pair)
        return list({id(entry): entry for entry in (*self.gone, *paired)}.values())

    def ops(self) -> list[SyncOp]:
        """Return the operations: removals, then renames."""
        run, attempt = self.book.key
        removes = [*(entry.path for entry in self.gone), *self.leftovers, *self.room]
        return [
            *(SyncOp(run, attempt, path, "remove") for path in removes),
            *(
                SyncOp(run, attempt, source.path, "rename", to=target.path)
                for source, target in self.pairs
            ),
        ]

    def settle(self, results: Sequence[SyncResult]) -> int:
        """Take the results, in the order of `ops`; return the most tries of what was refused."""
        refused = 0
        for entry, result in zip(self.gone, results, strict=False):
            entry.known = entry.sealed = None
            entry.lost = result.error is not None
            entry.tries = _tries(entry.tries, result)
            refused = max(refused, entry.tries)
            if entry.tries >= REFUSALS:
                self.book.forget(entry)
        for path, result in zip(self.leftovers, results[len(self.gone) :], strict=False):
            tries = _tries(self.book.refused.get(path, 0), result)
            self.book.refused[path] = tries
            refused = max(refused, tries)
        if refused:
            self.book.loaded = False
        known = {source.relative: source.known for source, _ in self.pairs}
        targets = {target.relative for _, target in self.pairs}
        renamed = results[len(results) - len(self.pairs) :]
        for (source, target), result in zip(self.pairs, renamed, strict=True):
            if result.error is not None:
                source.lost = target.lost = True
                source.tries += 1
                refused = max(refused, source.tries)
                self.book.make_room(target)
                if source.known is not None and not result.retryable:
                    source.known = replace(source.known, file=None)  # no longer paired
                continue
            if source.relative not in targets:
                source.known = None
            source.sealed = source.digest = None
            moved = known[source.relative]
            target.known = replace(moved, sealed=None) if moved is not None else None
            target.sealed = target.digest = None
            target.doubt, source.doubt = source.doubt, False
        return refused


def _tries(before: int, result: SyncResult) -> int:
    """Return how often something was refused; what is final counts as often enough."""
    if result.error is None:
        return 0
    if result.error in FINAL:
        return REFUSALS
    return before + 1 if not result.retryable else min(before + 1, REFUSALS - 1)


def claim_moves(book: Book, queues: Queues, operations: frozenset[str]) -> Moves | None:
    """
    Take what is moved in *book* into flight; None when nothing of it has to be told.

    What the wire cannot say is dropped (gone) or sent as new (renamed).
    """
    pairs = book.renames()[: FRAME_FILES // 2] if "rename" in operations else ()
    paired = {entry.relative for pair in pairs for entry in pair}
    gone: list[Entry] = []
    for relative in list(book.moved):
        entry = book.entries[relative]
        if relative in paired:
            continue
        if entry.stamp is not None:
            book.moved.pop(relative)
            queues.enqueue(book, entry)
        elif "remove" not in operations:
            book.moved.pop(relative)
            book.forget(entry)
        elif len(gone) < FRAME_FILES:
            gone.append(entry)
    leftovers = book.leftovers()[:FRAME_FILES]
    for path in leftovers:
        book.strangers.pop(path)
    if "remove" not in operations:
        leftovers = []
    queues.tidy(book)
    if not (pairs or gone or leftovers):
        return None
    moves = Moves(book, pairs, gone, leftovers)
    for entry in moves.entries:
        queues.fly(book, entry)
    return moves
