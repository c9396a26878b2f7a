"""
What a store promises to those who carry its events further. `SqlOutbox` and `MemoryOutbox` keep it.

Promises:

- The log is the outbox: there is no second copy of an event. A consumer is a name and a cursor, the
  id of the last event that it needs no more.
- A page of the log tells how far it looked (`Page.upto`): who goes on from there misses nothing,
  also where a filter passed most of it over. One call looks at `SCAN` ids at most.
- A dead letter and the cursor that passes it are one transaction.
- A cursor never goes back.

It knows no rights and no time: who may read what is said to it (`Readable`), times are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from physicsrunner.store.rows import Actor
from physicsrunner.wire.live import Event

SCAN: Final = 20_000  #: ids that one filtered call looks at


@dataclass(frozen=True)
class Readable:
    """What somebody may read who may not read everything: never events of accounts."""

    projects: frozenset[str] = frozenset()
    creator: str | None = None  #: of runs of no project
    run: str | None = None  #: that run alone
    types: tuple[str, ...] = ()  #: what fits these patterns, of whatever project


@dataclass(frozen=True)
class EventFilter:
    """Which events of the log are wanted."""

    after: int = 0  #: behind this id
    run: str | None = None
    project: str | None = None
    types: Sequence[str] = ()  #: patterns of `wire.live.type_matches`; none: all
    limit: int = 500
    readable: Readable | None = None  #: None: everything


@dataclass(frozen=True)
class Received:
    """
    What of the log everybody has who is told of it: up to the id *upto*.

    What is behind it waits for them, if it is not older than *since* (POSIX seconds).
    """

    upto: int
    since: float


@dataclass(frozen=True)
class Page:
    """Events in the order of the log, and up to which id there are no others."""

    events: list[Event]
    upto: int


@dataclass(frozen=True)
class WebhookRow:
    """Where events go by HTTP, and how far it is."""

    id: str
    url: str
    secret: str  #: encrypted; the store does not know the key
    types: Sequence[str]  #: patterns; none: all
    project_id: str | None
    created_by: str
    created_at: float
    active: bool = True
    cursor: int = 0  #: the last event that was delivered, passed over or buried
    failures: int = 0  #: of the event behind the cursor, in a row
    next_try_at: float | None = None
    last_error: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """An event that a webhook did not take."""

    id: int
    webhook_id: str
    event_id: int
    tries: int
    error: str
    time: float  #: of the last try


class OutboxStore(Protocol):
    """Cursors of consumers, webhooks and dead letters."""

    def find_events(self, wanted: EventFilter) -> Page:
        """Return a page of the log, ascending, and how far it looked."""
        ...

    def event(self, number: int) -> Event | None:
        """Return the event of that id; None if there is none, or none any more."""
        ...

    def last_event(self) -> int:
        """Return the id of the newest event; 0 when there is none."""
        ...

    def cursor(self, consumer: str) -> int | None:
        """Return the last event that *consumer* needs no more; None if it is unknown."""
        ...

    def set_cursor(self, consumer: str, event: int, now: float) -> None:
        """Keep that *consumer* needs nothing up to *event* any more."""
        ...

    def add_webhook(
        self, row: WebhookRow, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> None:
        """Keep a new webhook, and write *events*."""
        ...

    def webhook(self, webhook: str) -> WebhookRow | None:
        """Return the webhook of that id; None if there is none."""
        ...

    def webhooks(self) -> list[WebhookRow]:
        """Return all webhooks, the oldest first."""
        ...

    def change_webhook(
        self,
        webhook: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> WebhookRow | None:
        """
        Set *fields* of `WebhookRow` and write *events*; return it as it is then.

        None if it is gone: then nothing is written.
        """
        ...

    def remove_webhook(
        self, webhook: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Remove a webhook and its dead letters, and write *events*; say whether it was there."""
        ...

    def bury(self, webhook: str, event: int, *, tries: int, error: str, now: float) -> bool:
        """
        Put *event* on the dead letters of *webhook* and pass it over, in one transaction.

        Say whether that was done; not when the webhook is gone or has passed the event already.
        """
        ...

    def dead_letters(self, webhook: str, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return the dead letters of *webhook* behind the id *after*, the oldest first."""
        ...

    def change_dead_letter(self, letter: int, *, tries: int, error: str, now: float) -> None:
        """Keep that a dead letter was tried again in vain."""
        ...

    def remove_dead_letter(self, letter: int) -> bool:
        """Forget a dead letter; say whether it was there."""
        ...
