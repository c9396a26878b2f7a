"""Cursors, webhooks and dead letters in SQL. The promises are those of `store.outbox`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from physicsrunner.store import schema
from physicsrunner.store.outbox import SCAN, DeadLetter, EventFilter, Page, Readable, WebhookRow
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.wire.live import ACCOUNT_KINDS, Event

_EVENTS: Final = schema.events.c
_RUNS: Final = schema.runs.c
_CONSUMERS: Final = schema.consumers.c
_WEBHOOKS: Final = schema.webhooks.c
_LETTERS: Final = schema.dead_letters.c
_LETTER_FIELDS: Final = tuple(field.name for field in fields(DeadLetter))
_WEBHOOK_FIELDS: Final = tuple(field.name for field in fields(WebhookRow))


class SqlOutbox(SqlEvents):
    """The tables ``consumers``, ``webhooks`` and ``dead_letters``, and pages of the log."""

    def find_events(self, wanted: EventFilter) -> Page:
        """Return a page of the log, ascending, and how far it looked."""
        limit = max(1, wanted.limit)
        with self._db.read() as connection:
            newest = connection.scalar(select(func.max(_EVENTS.id))) or 0
            end = max(wanted.after, min(newest, wanted.after + SCAN))
            query = (
                select(schema.events)
                .where(_EVENTS.id > wanted.after, _EVENTS.id <= end, *_conditions(wanted))
                .order_by(_EVENTS.id)
                .limit(limit)
            )
            found = [_event(row) for row in connection.execute(query)]
        upto = found[-1].id if len(found) == limit else end
        return Page(found, upto or wanted.after)

    def event(self, number: int) -> Event | None:
        """Return the event of that id; None if there is none, or none any more."""
        with self._db.read() as connection:
            row = connection.execute(select(schema.events).where(_EVENTS.id == number)).first()
        return None if row is None else _event(row)

    def last_event(self) -> int:
        """Return the id of the newest event; 0 when there is none."""
        with self._db.read() as connection:
            return connection.scalar(select(func.max(_EVENTS.id))) or 0

    def cursor(self, consumer: str) -> int | None:
        """Return the last event that *consumer* needs no more; None if it is unknown."""
        with self._db.read() as connection:
            return connection.scalar(select(_CONSUMERS.cursor).where(_CONSUMERS.name == consumer))

    def set_cursor(self, consumer: str, event: int, now: float) -> None:
        """Keep that *consumer* needs nothing up to *event* any more."""
        values = {"cursor": event, "updated_at": now}
        mine = _CONSUMERS.name == consumer

        def work(transaction: Transaction) -> None:
            connection = transaction.connection
            known = connection.scalar(select(_CONSUMERS.cursor).where(mine))
            if known is None:
                connection.execute(insert(schema.consumers), {"name": consumer, **values})
            elif known < event:
                connection.execute(update(schema.consumers).where(mine), values)

        self._write(work)

    def add_webhook(
        self, row: WebhookRow, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> None:
        """Keep a new webhook, and write *events*."""
        values = {name: getattr(row, name) for name in _WEBHOOK_FIELDS}

        def work(transaction: Transaction) -> None:
            transaction.connection.execute(
                insert(schema.webhooks), {**values, "types": list(row.types)}
            )
            transaction.write_events(events)

        self._write(work, by)

    def webhook(self, webhook: str) -> WebhookRow | None:
        """Return the webhook of that id; None if there is none."""
        with self._db.read() as connection:
            return _webhook(connection, webhook)

    def webhooks(self) -> list[WebhookRow]:
        """Return all webhooks, the oldest first."""
        query = select(schema.webhooks).order_by(_WEBHOOKS.created_at, _WEBHOOKS.id)
        with self._db.read() as connection:
            return [WebhookRow(**row) for row in connection.execute(query).mappings()]

    def change_webhook(
        self,
        webhook: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> WebhookRow | None:
        """Set *fields* of `WebhookRow` and write *events*; return it as it is then."""

        def work(transaction: Transaction) -> WebhookRow | None:
            known = _webhook(transaction.connection, webhook)
            if known is None:
                return None
            values = dict(fields)
            if "cursor" in values:
                values["cursor"] = max(known.cursor, values["cursor"])
            if values:
                mine = update(schema.webhooks).where(_WEBHOOKS.id == webhook)
                transaction.connection.execute(mine, values)
            transaction.write_events(events)
            return _webhook(transaction.connection, webhook)

        return self._write(work, by)

    def remove_webhook(
        self, webhook: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Remove a webhook and its dead letters, and write *events*; say whether it was there."""
        letters = delete(schema.dead_letters).where(_LETTERS.webhook_id == webhook)
        row = delete(schema.webhooks).where(_WEBHOOKS.id == webhook)

        def work(transaction: Transaction) -> bool:
            transaction.connection.execute(letters)
            if not transaction.connection.execute(row).rowcount:
                return False
            transaction.write_events(events)
            return True

        return self._write(work, by)

    def bury(self, webhook: str, event: int, *, tries: int, error: str, now: float) -> bool:
        """Put *event* on the dead letters of *webhook* and pass it over, in one transaction."""
        passed = {"cursor": event, "failures": 0, "next_try_at": None, "last_error": error}
        letter = {"webhook_id": webhook, "event_id": event, "tries": tries}
        behind = and_(_WEBHOOKS.id == webhook, _WEBHOOKS.cursor < event)

        def work(transaction: Transaction) -> bool:
            connection = transaction.connection
            if not connection.execute(update(schema.webhooks).where(behind), passed).rowcount:
                return False
            connection.execute(insert(schema.dead_letters), {**letter, "error": error, "time": now})
            return True

        return self._write(work)

    def dead_letters(self, webhook: str, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return the dead letters of *webhook* behind the id *after*, the oldest first."""
        query = (
            select(*(schema.dead_letters.c[name] for name in _LETTER_FIELDS))
            .where(_LETTERS.webhook_id == webhook, _LETTERS.id > after)
            .order_by(_LETTERS.id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [DeadLetter(**row) for row in connection.execute(query).mappings()]

    def change_dead_letter(self, letter: int, *, tries: int, error: str, now: float) -> None:
        """Keep that a dead letter was tried again in vain."""
        changed = update(schema.dead_letters).where(_LETTERS.id == letter)
        values = {"tries": tries, "error": error, "time": now}
        self._write(lambda transaction: transaction.connection.execute(changed, values).close())

    def remove_dead_letter(self, letter: int) -> bool:
        """Forget a dead letter; say whether it was there."""
        gone = delete(schema.dead_letters).where(_LETTERS.id == letter)
        return self._write(lambda transaction: transaction.connection.execute(gone).rowcount > 0)


def _webhook(connection: Connection, webhook: str) -> WebhookRow | None:
    query = select(schema.webhooks).where(_WEBHOOKS.id == webhook)
    row = connection.execute(query).mappings().first()
    return None if row is None else WebhookRow(**row)


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.run is not None:
        found.append(_EVENTS.run_id == wanted.run)
    if wanted.project is not None:
        found.append(_EVENTS.project_id == wanted.project)
    if wanted.types:
        found.append(_types(wanted.types))
    if wanted.readable is not None:
        found.append(_readable(wanted.readable))
    return found


def _types(patterns: Sequence[str]) -> ColumnElement[bool]:
    return or_(*(_EVENTS.type.like(_like(pattern), escape="\\") for pattern in patterns))


def _like(pattern: str) -> str:
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%")


def _readable(by: Readable) -> ColumnElement[bool]:
    ways: list[ColumnElement[bool]] = [_EVENTS.project_id.in_(sorted(by.projects))]
    if by.types:
        ways.append(_types(by.types))
    if by.run is not None:
        ways.append(_EVENTS.run_id == by.run)
    if by.creator is not None:
        own = select(_RUNS.id).where(_RUNS.created_by == by.creator, _RUNS.project_id.is_(None))
        ways.append(and_(_EVENTS.project_id.is_(None), _EVENTS.run_id.in_(own)))
    return and_(or_(*ways), not_(_types([f"{kind}*" for kind in ACCOUNT_KINDS])))


def _event(row: Any) -> Event:
    return Event(
        type=row.type,
        run=row.run_id,
        attempt=row.attempt,
        project=row.project_id,
        time=row.time,
        data=row.data,
        id=row.id,
    )
