"""
Patience: a big run is not passed over for ever.

Who is next is the queue's order, and a run that does not fit is passed over (`store` hands out).
Small runs that keep coming could so take each core that becomes free, and one that needs all of
them would never start. Hence `overdue`: when a run has waited for long, an agent that could hold it
is given nothing that comes behind it, until it is empty enough.

Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from physicsrunner.core.resources import Room, has_labels
from physicsrunner.core.run import RunSummary

PATIENCE_S: Final = 600.0  #: of waiting, before an agent is kept free for a run


def queue_place(run: RunSummary) -> tuple[int, int]:
    """Return what the queue is sorted by."""
    return -run.priority, run.number


def is_behind(run: RunSummary, place: tuple[int, int] | None) -> bool:
    """Say whether *run* comes after *place*; None: nothing does."""
    return place is not None and queue_place(run) > place


def overdue(
    waiting: Sequence[RunSummary], free: Room, total: Room, labels: Sequence[str], now: float
) -> Iterator[RunSummary]:
    """
    Yield the runs for which an agent should be kept free, the first first.

    Parameters
    ----------
    waiting
        The first runs of the queue, in its order.
    free, total
        What the agent has left, and has in all.
    """
    for run in waiting:
        since = run.created_at if run.not_before is None else run.not_before
        patient = run.held or now - since < PATIENCE_S
        if not patient and not free.fits(run) and total.fits(run) and has_labels(run, labels):
            yield run
