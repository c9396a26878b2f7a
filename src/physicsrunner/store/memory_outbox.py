"""Cursors, webhooks and dead letters in memory. The promises are those of `store.outbox`."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from physicsrunner.store.outbox import SCAN, DeadLetter, EventFilter, Page, Readable, WebhookRow
from physicsrunner.store.rows import Actor
from physicsrunner.wire.live import Event, is_account_event, type_matches

if TYPE_CHECKING:
    from physicsrunner.core.run import RunSummary


class MemoryOutbox:
    """The part of `MemoryStore` that carries events further. It stands on its log and its runs."""

    _lock: threading.RLock
    _events: list[Event]

    def __init__(self) -> None:
        super().__init__()
        self._cursors: dict[str, int] = {}
        self._webhooks: dict[str, WebhookRow] = {}
        self._letters: dict[int, DeadLetter] = {}
        self._last_letter = 0

    if TYPE_CHECKING:

        def summary(self, run: str | int) -> RunSummary | None: ...

        def append_events(
            self, events: Sequence[Event], *, by: Actor | None = None
        ) -> list[Event]: ...

    def find_events(self, wanted: EventFilter) -> Page:
        """Return a page of the log, ascending, and how far it looked."""
        with self._lock:
            newest = self.last_event()
            end = max(wanted.after, min(newest, wanted.after + SCAN))
            behind = (item for item in self._events if wanted.after < (item.id or 0) <= end)
            limit = max(1, wanted.limit)
            found = list(islice((item for item in behind if self._fits(item, wanted)), limit))
        upto = found[-1].id if len(found) == limit else end
        return Page(copy.deepcopy(found), upto or wanted.after)

    def event(self, number: int) -> Event | None:
        """Return the event of that id; None if there is none, or none any more."""
        with self._lock:
            found = next((item for item in self._events if item.id == number), None)
            return copy.deepcopy(found)

    def last_event(self) -> int:
        """Return the id of the newest event; 0 when there is none."""
        with self._lock:
            return (self._events[-1].id or 0) if self._events else 0

    def cursor(self, consumer: str) -> int | None:
        """Return the last event that *consumer* needs no more; None if it is unknown."""
        with self._lock:
            return self._cursors.get(consumer)

    def set_cursor(self, consumer: str, event: int, now: float) -> None:  # noqa: ARG002
        """Keep that *consumer* needs nothing up to *event* any more."""
        with self._lock:
            self._cursors[consumer] = max(event, self._cursors.get(consumer, 0))

    def add_webhook(
        self, row: WebhookRow, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> None:
        """Keep a new webhook, and write *events*."""
        with self._lock:
            self._webhooks[row.id] = replace(row, types=list(row.types))
            self.append_events(events, by=by)

    def webhook(self, webhook: str) -> WebhookRow | None:
        """Return the webhook of that id; None if there is none."""
        with self._lock:
            return self._webhooks.get(webhook)

    def webhooks(self) -> list[WebhookRow]:
        """Return all webhooks, the oldest first."""
        with self._lock:
            return sorted(self._webhooks.values(), key=lambda row: (row.created_at, row.id))

    def change_webhook(
        self,
        webhook: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> WebhookRow | None:
        """Set *fields* of `WebhookRow` and write *events*; return it as it is then."""
        with self._lock:
            known = self._webhooks.get(webhook)
            if known is None:
                return None
            changed = replace(known, **fields)
            changed = replace(changed, cursor=max(known.cursor, changed.cursor))
            self._webhooks[webhook] = changed
            self.append_events(events, by=by)
            return changed

    def remove_webhook(
        self, webhook: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Remove a webhook and its dead letters, and write *events*; say whether it was there."""
        with self._lock:
            for letter in [item for item in self._letters.values() if item.webhook_id == webhook]:
                del self._letters[letter.id]
            if self._webhooks.pop(webhook, None) is None:
                return False
            self.append_events(events, by=by)
            return True

    def bury(self, webhook: str, event: int, *, tries: int, error: str, now: float) -> bool:
        """Put *event* on the dead letters of *webhook* and pass it over, in one transaction."""
        with self._lock:
            known = self._webhooks.get(webhook)
            if known is None or known.cursor >= event:
                return False
            self._last_letter += 1
            letter = DeadLetter(self._last_letter, webhook, event, tries, error, now)
            self._letters[letter.id] = letter
            self._webhooks[webhook] = replace(
                known, cursor=event, failures=0, next_try_at=None, last_error=error
            )
            return True

    def dead_letters(self, webhook: str, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return the dead letters of *webhook* behind the id *after*, the oldest first."""
        with self._lock:
            kept = sorted(self._letters.values(), key=lambda item: item.id)
        return [item for item in kept if item.webhook_id == webhook and item.id > after][:limit]

    def change_dead_letter(self, letter: int, *, tries: int, error: str, now: float) -> None:
        """Keep that a dead letter was tried again in vain."""
        with self._lock:
            known = self._letters.get(letter)
            if known is not None:
                self._letters[letter] = replace(known, tries=tries, error=error, time=now)

    def remove_dead_letter(self, letter: int) -> bool:
        """Forget a dead letter; say whether it was there."""
        with self._lock:
            return self._letters.pop(letter, None) is not None

    def _fits(self, item: Event, wanted: EventFilter) -> bool:
        return (
            wanted.run in (None, item.run)
            and wanted.project in (None, item.project)
            and type_matches(wanted.types, item.type)
            and (wanted.readable is None or self._readable(item, wanted.readable))
        )

    def _readable(self, item: Event, by: Readable) -> bool:
        if is_account_event(item.type):
            return False
        if item.run is not None and item.run == by.run:
            return True
        if by.types and type_matches(by.types, item.type):
            return True
        if item.project is not None:
            return item.project in by.projects
        if item.run is None or by.creator is None:
            return False
        run = self.summary(item.run)
        return run is not None and run.project_id is None and run.created_by == by.creator
