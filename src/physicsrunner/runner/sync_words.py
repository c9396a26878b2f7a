"""
Last words: the report of an attempt's end, in the frame that seals the last of its files.

Promises: they go along only when everything else of the attempt is sealed already, so that the
server can take them after the operations of that frame; what it does not hear that way is left to
whoever finishes the attempt. Nothing is reported twice by one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from physicsrunner.client.uplink import Outgoing, Uplink
from physicsrunner.runner.sync_bells import Bells
from physicsrunner.runner.sync_book import Book
from physicsrunner.runner.sync_frame import Prepared
from physicsrunner.wire.messages import Report, ReportAnswer, SyncResult

#: `client.native.NativeUplink.send_with`: not every wire has it.
_SendWith = Callable[
    [Sequence[Outgoing], Sequence[Report]],
    tuple[Sequence[SyncResult], Sequence[ReportAnswer | None]],
]


def exchange(
    uplink: Uplink, bells: Bells, batch: Sequence[Outgoing], parts: Sequence[Prepared]
) -> Sequence[SyncResult]:
    """Send the frame *batch* of *parts*, with what attempts say that end with it."""
    send_with: _SendWith | None = getattr(uplink, "send_with", None)
    speakers = [] if send_with is None else _speakers(bells, parts)
    if send_with is None or not speakers:
        return uplink.send(batch)
    results, heard = send_with(batch, [each for _, said in speakers for each in said])
    answers = iter(heard)
    for book, said in speakers:
        whole = [answer for _ in said if (answer := next(answers)) is not None]
        if len(whole) == len(said) and book.words is not None:
            book.words.answers, book.said = whole, ()
    return results


def _speakers(bells: Bells, parts: Sequence[Prepared]) -> list[tuple[Book, Sequence[Report]]]:
    """Return the attempts of which nothing is left after *parts*, and what they say then."""
    found: dict[int, tuple[Book, list[Prepared]]] = {}
    for part in parts:
        if part.book.said:
            found.setdefault(id(part.book), (part.book, []))[1].append(part)
    with bells:
        return [
            (book, book.said)
            for book, mine in found.values()
            if all(part.whole for part in mine) and book.speaks_with(len(mine))
        ]
